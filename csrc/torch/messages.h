// send and recv with tags, over the communicator's messages, which have none: each is preceded by an envelope
// that says its tag and size. Who receives opens envelopes one after the other, and keeps what nobody has
// asked for yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "communicator/communicator.h"

namespace ringtree {

class Messages {
 public:
  /// Called once, with what went wrong or nothing, and whom the message came from or went to.
  using Done = std::function<void(const std::exception_ptr& error, int peer)>;

  explicit Messages(Communicator& communicator);

  /// `data` is read until `done` is called.
  void send(const std::byte* data, std::size_t bytes, int to, int tag, Done done);
  /// From any peer if `from` is negative. `data` may be written to until `done` is called.
  void receive(std::byte* data, std::size_t bytes, int from, int tag, Done done);

  /// Receives nothing more: who still waits for a message gets `error`.
  void stop(const std::exception_ptr& error);

 private:
  struct Envelope {
    std::int64_t tag;
    std::uint64_t bytes;
  };
  struct Wish {
    std::byte* data;
    std::size_t bytes;
    int from, tag;
    Done done;
  };
  struct Letters {  ///< of one message, until it is through
    Envelope envelope{};
    std::vector<std::byte> early;
    std::shared_ptr<Wish> wish;
  };
  struct Early {
    int tag;
    std::vector<std::byte> data;
  };
  struct Peer {
    bool is_reading = false;         ///< an envelope, or what follows it
    std::shared_ptr<Work> envelope;  ///< under way, if it is one
    std::deque<Early> early;
  };

  void read_on(int peer);
  void open(int peer, const std::shared_ptr<Letters>& message);
  void arrive(int peer, const std::shared_ptr<Letters>& message);
  void fail(int peer, const std::exception_ptr& error);
  void withdraw_unwanted();
  std::shared_ptr<Wish> take_wish(int peer, int tag);
  bool is_wanted(int peer) const;
  std::exception_ptr too_large(const Wish& wish, std::size_t sent, int peer) const;

  Communicator* communicator_;
  std::mutex mutex_;  ///< guards what follows
  bool stopped_ = false;
  std::vector<Peer> peers_;
  std::deque<std::shared_ptr<Wish>> wishes_;  ///< in the order in which they were made
};

}  // namespace ringtree
