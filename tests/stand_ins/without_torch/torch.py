"""For tests of what runs where PyTorch is not installed, and for those that would import it for nothing."""

raise ImportError("this test runs without PyTorch")
