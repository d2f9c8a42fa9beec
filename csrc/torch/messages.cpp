#include "torch/messages.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/errors.h"

namespace ringtree {

Messages::Messages(Communicator& communicator)
    : communicator_(&communicator), peers_(static_cast<std::size_t>(communicator.world())) {}

void Messages::send(const std::byte* data, std::size_t bytes, int to, int tag, Done done) {
  const auto message = std::make_shared<Letters>();
  message->envelope = {tag, bytes};
  // The core only reads what is outgoing.
  std::vector<Letter> letters{
      {true, to, reinterpret_cast<std::byte*>(&message->envelope), sizeof(Envelope), DType::uint8}};
  if (bytes != 0) letters.push_back({true, to, const_cast<std::byte*>(data), bytes, DType::uint8});
  communicator_->exchange(letters, true, message)
      ->then([to, done = std::move(done)](const std::exception_ptr& error) { done(error, to); });
}

void Messages::receive(std::byte* data, std::size_t bytes, int from, int tag, Done done) {
  const auto wish = std::make_shared<Wish>(Wish{data, bytes, from, tag, std::move(done)});
  std::vector<int> to_read;
  {
    std::unique_lock lock(mutex_);
    if (stopped_) throw InvalidArgument(refusal(communicator_->rank(), "recv", "the group has ended"));
    for (int peer = 0; peer < communicator_->world(); ++peer) {
      if (peer == communicator_->rank() || (from >= 0 && from != peer)) continue;
      Peer& sender = peers_[static_cast<std::size_t>(peer)];
      const auto early = std::find_if(sender.early.begin(), sender.early.end(),
                                      [tag](const Early& message) { return message.tag == tag; });
      if (early == sender.early.end()) continue;
      const std::vector<std::byte> arrived = std::move(early->data);
      sender.early.erase(early);
      lock.unlock();
      if (arrived.size() > bytes) return wish->done(too_large(*wish, arrived.size(), peer), peer);
      if (!arrived.empty()) std::memcpy(data, arrived.data(), arrived.size());
      return wish->done(nullptr, peer);
    }
    wishes_.push_back(wish);
    for (int peer = 0; peer < communicator_->world(); ++peer)
      if (peer != communicator_->rank() && (from < 0 || from == peer)) to_read.push_back(peer);
  }
  for (const int peer : to_read) read_on(peer);
}

/// Reads the next envelope of `peer` if somebody wants a message from it.
void Messages::read_on(int peer) {
  const auto message = std::make_shared<Letters>();
  std::shared_ptr<Work> work;
  try {
    const std::lock_guard lock(mutex_);
    Peer& sender = peers_[static_cast<std::size_t>(peer)];
    if (sender.is_reading || stopped_ || !is_wanted(peer)) return;
    work = communicator_->exchange(
        {{false, peer, reinterpret_cast<std::byte*>(&message->envelope), sizeof(Envelope), DType::uint8}},
        true, message);
    sender.is_reading = true;
    sender.envelope = work;
  } catch (...) {
    return fail(peer, std::current_exception());
  }
  work->then([this, peer, message](const std::exception_ptr& error) {
    error ? fail(peer, error) : open(peer, message);
  });
}

/// Envelopes that were to be read for somebody who has got a message from another peer.
void Messages::withdraw_unwanted() {
  const std::lock_guard lock(mutex_);
  for (std::size_t peer = 0; peer < peers_.size(); ++peer) {
    Peer& sender = peers_[peer];
    if (!sender.envelope || (!stopped_ && is_wanted(static_cast<int>(peer)))) continue;
    if (!communicator_->withdraw(*sender.envelope)) continue;  // it has come: open() will see
    sender.envelope = nullptr;
    sender.is_reading = false;
  }
}

void Messages::stop(const std::exception_ptr& error) {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  withdraw_unwanted();
  for (int peer = 0; peer < communicator_->world(); ++peer) fail(peer, error);
}

/// The envelope is there: reads what follows to whoever wants it, or keeps it.
void Messages::open(int peer, const std::shared_ptr<Letters>& message) {
  const auto bytes = static_cast<std::size_t>(message->envelope.bytes);
  {
    const std::lock_guard lock(mutex_);
    peers_[static_cast<std::size_t>(peer)].envelope = nullptr;
    message->wish = take_wish(peer, static_cast<int>(message->envelope.tag));
  }
  withdraw_unwanted();
  const bool fits = message->wish && bytes <= message->wish->bytes;
  if (!fits) message->early.resize(bytes);
  if (bytes == 0) return arrive(peer, message);
  std::byte* data = fits ? message->wish->data : message->early.data();
  try {
    communicator_->exchange({{false, peer, data, bytes, DType::uint8}}, true, message)
        ->then([this, peer, message](const std::exception_ptr& error) {
          if (!error) return arrive(peer, message);
          if (message->wish) message->wish->done(error, peer);
          fail(peer, error);
        });
  } catch (...) {
    if (message->wish) message->wish->done(std::current_exception(), peer);
    fail(peer, std::current_exception());
  }
}

void Messages::arrive(int peer, const std::shared_ptr<Letters>& message) {
  const auto bytes = static_cast<std::size_t>(message->envelope.bytes);
  const int tag = static_cast<int>(message->envelope.tag);
  {
    const std::lock_guard lock(mutex_);
    Peer& sender = peers_[static_cast<std::size_t>(peer)];
    sender.is_reading = false;
    if (!message->wish) {
      message->wish = take_wish(peer, tag);  // made since the envelope was opened
      if (!message->wish)
        sender.early.push_back({tag, std::move(message->early)});
      else if (bytes != 0 && bytes <= message->wish->bytes)
        std::memcpy(message->wish->data, message->early.data(), bytes);
    }
  }
  if (const auto& wish = message->wish)
    wish->done(bytes > wish->bytes ? too_large(*wish, bytes, peer) : nullptr, peer);
  withdraw_unwanted();
  read_on(peer);
}

void Messages::fail(int peer, const std::exception_ptr& error) {
  std::vector<std::shared_ptr<Wish>> failed;
  {
    const std::lock_guard lock(mutex_);
    Peer& sender = peers_[static_cast<std::size_t>(peer)];
    sender.is_reading = false;
    sender.envelope = nullptr;
    const auto concerned = [peer](const std::shared_ptr<Wish>& wish) {
      return wish->from < 0 || wish->from == peer;
    };
    std::copy_if(wishes_.begin(), wishes_.end(), std::back_inserter(failed), concerned);
    std::erase_if(wishes_, concerned);
  }
  for (const std::shared_ptr<Wish>& wish : failed) wish->done(error, peer);
}

/// Under `mutex_`.
std::shared_ptr<Messages::Wish> Messages::take_wish(int peer, int tag) {
  const auto found = std::find_if(wishes_.begin(), wishes_.end(), [&](const std::shared_ptr<Wish>& wish) {
    return (wish->from < 0 || wish->from == peer) && wish->tag == tag;
  });
  if (found == wishes_.end()) return nullptr;
  std::shared_ptr<Wish> wish = *found;
  wishes_.erase(found);
  return wish;
}

/// Under `mutex_`.
bool Messages::is_wanted(int peer) const {
  return std::any_of(wishes_.begin(), wishes_.end(), [peer](const std::shared_ptr<Wish>& wish) {
    return wish->from < 0 || wish->from == peer;
  });
}

std::exception_ptr Messages::too_large(const Wish& wish, std::size_t sent, int peer) const {
  return std::make_exception_ptr(
      Mismatch("rank " + std::to_string(communicator_->rank()) + ", recv from rank " + std::to_string(peer) +
                   " (tag " + std::to_string(wish.tag) + "): rank " + std::to_string(peer) + " sent " +
                   std::to_string(sent) + " bytes, and the tensor to receive them has " +
                   std::to_string(wish.bytes) + ". The message is lost; the group stays usable.",
               {communicator_->rank(), peer}));
}

}  // namespace ringtree
