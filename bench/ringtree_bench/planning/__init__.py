"""What `ringtree plan` is made of: units, the model, its fit to this machine, crossovers, table, drawing."""
