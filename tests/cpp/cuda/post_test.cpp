#include "cuda/post.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/thread_meeting.h"

namespace ringtree::testing {
namespace {

using Posts = std::vector<std::unique_ptr<Post>>;
using Alter = std::function<std::string(int, const std::string&)>;

/// Of ranks in `processes`, or as good as there; `alter(rank, word)` is what the others hear from a rank.
Posts open_posts(const std::vector<int>& processes, const Alter& alter = {}) {
  Posts posts(processes.size());
  Meeting meeting(static_cast<int>(processes.size()));
  meeting.run([&](int rank) {
    std::vector<bool> is_near;
    for (const int process : processes)
      is_near.push_back(process == processes[static_cast<std::size_t>(rank)]);
    const auto exchange = [&](const std::string& own) {
      return meeting.exchange(rank, alter ? alter(rank, own) : own);
    };
    posts[static_cast<std::size_t>(rank)] =
        std::make_unique<Post>(static_cast<std::size_t>(rank), is_near, exchange);
  });
  return posts;
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC), 0);
    reading = Descriptor(ends[0]);
    writing = Descriptor(ends[1]);
  }

  void expect(const std::string& text) const {
    char got[64];
    const ssize_t bytes = read(reading.number(), got, sizeof(got));
    EXPECT_EQ(std::string(got, bytes > 0 ? static_cast<std::size_t>(bytes) : 0), text);
  }

  Descriptor reading, writing;
};

Post::Sent send(Post& post, std::size_t peer, std::vector<int> descriptors) {
  return post.send(peer, descriptors);
}

TEST(Post, BringsCopiesFromAllToAllInOrder) {
  constexpr std::size_t kWorld = 3;
  const Posts posts = open_posts({0, 1, 2});
  for (std::size_t from = 0; from < kWorld; ++from)
    for (std::size_t to = 0; to < kWorld; ++to) {
      if (from == to) continue;
      Pipe first, second;
      ASSERT_EQ(send(*posts[from], to, {first.writing.number(), second.writing.number()}), Post::Sent::yes);
      ASSERT_EQ(send(*posts[from], to, {second.writing.number()}), Post::Sent::yes);
      first.writing = {};
      second.writing = {};
      std::vector<Descriptor> both = posts[to]->receive(from);
      ASSERT_EQ(both.size(), 2U);
      EXPECT_EQ(write(both[0].number(), "first", 5), 5);
      EXPECT_EQ(write(both[1].number(), "second", 6), 6);
      first.expect("first");
      second.expect("second");
      const std::vector<Descriptor> one = posts[to]->receive(from);
      ASSERT_EQ(one.size(), 1U);
      EXPECT_EQ(write(one[0].number(), "again", 5), 5);
      second.expect("again");
      EXPECT_TRUE(posts[to]->receive(from).empty()) << "nothing new has arrived";
    }
}

TEST(Post, TakesAsManyAtOnceAsItSays) {
  const Posts posts = open_posts({0, 1});
  const Pipe pipe;
  const std::vector<int> most(Post::kMostDescriptors, pipe.writing.number());
  ASSERT_EQ(posts[0]->send(1, most), Post::Sent::yes);
  EXPECT_EQ(posts[1]->receive(0).size(), Post::kMostDescriptors);
}

TEST(Post, ThereIsNoneBetweenNearRanks) {
  const Posts posts = open_posts({0, 0, 1});
  const Pipe pipe;
  EXPECT_EQ(send(*posts[1], 0, {pipe.writing.number()}), Post::Sent::never);
  EXPECT_TRUE(posts[0]->receive(1).empty());
  EXPECT_EQ(send(*posts[0], 2, {pipe.writing.number()}), Post::Sent::yes);
  EXPECT_EQ(posts[2]->receive(0).size(), 1U);
}

TEST(Post, KeepsWhatIsNotTakenAndRefusesWhatIsTooMuch) {
  const Posts posts = open_posts({0, 1});
  const Pipe pipe;
  std::size_t sent = 0;
  while (send(*posts[0], 1, {pipe.writing.number()}) == Post::Sent::yes) ++sent;
  EXPECT_GT(sent, 10U);
  EXPECT_EQ(send(*posts[0], 1, {pipe.writing.number()}), Post::Sent::later);
  for (std::size_t i = 0; i < sent; ++i) ASSERT_EQ(posts[1]->receive(0).size(), 1U);
  EXPECT_TRUE(posts[1]->receive(0).empty());
  EXPECT_EQ(send(*posts[0], 1, {pipe.writing.number()}), Post::Sent::yes);
}

TEST(Post, NothingGoesToWhoHasGoneOrComesFromThere) {
  Posts posts = open_posts({0, 1});
  const Pipe pipe;
  posts[0].reset();
  EXPECT_EQ(send(*posts[1], 0, {pipe.writing.number()}), Post::Sent::never);
  EXPECT_TRUE(posts[1]->receive(0).empty());
}

TEST(Post, WhatWasSentArrivesThoughTheSenderHasGone) {
  Posts posts = open_posts({0, 1});
  const Pipe pipe;
  EXPECT_EQ(send(*posts[0], 1, {pipe.writing.number()}), Post::Sent::yes);
  posts[0].reset();
  EXPECT_EQ(posts[1]->receive(0).size(), 1U);
  EXPECT_TRUE(posts[1]->receive(0).empty());
}

/// As if its name meant another process in a peer's network namespace, or nobody.
TEST(Post, NobodyIsTakenForAnother) {
  const Alter another_word = [](int rank, const std::string& own) {
    std::string altered = own;
    if (rank == 0 && altered.size() > sizeof(std::uint64_t)) altered.back() = static_cast<char>(~own.back());
    return altered;
  };
  const Alter nobody = [](int rank, const std::string& own) { return rank == 0 ? std::string() : own; };
  for (const Alter& alter : {another_word, nobody}) {
    const Posts posts = open_posts({0, 1, 2}, alter);
    const Pipe pipe;
    EXPECT_EQ(send(*posts[0], 1, {pipe.writing.number()}), Post::Sent::never);
    EXPECT_EQ(send(*posts[1], 0, {pipe.writing.number()}), Post::Sent::never);
    EXPECT_TRUE(posts[1]->receive(0).empty());
    EXPECT_EQ(send(*posts[1], 2, {pipe.writing.number()}), Post::Sent::yes);
    EXPECT_EQ(posts[2]->receive(1).size(), 1U);
  }
}

/// A part of a message would be taken for all of it.
TEST(Post, WhoHasNoRoomForAMessageGetsNoneFromThereAnyMore) {
  const Posts posts = open_posts({0, 1});
  const Pipe pipe;
  const std::vector<int> several(20, pipe.writing.number());
  ASSERT_EQ(posts[0]->send(1, several), Post::Sent::yes);
  ASSERT_EQ(posts[0]->send(1, several), Post::Sent::yes);
  rlimit all{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &all), 0);
  const Descriptor next(dup(pipe.writing.number()));
  const rlimit few{static_cast<rlim_t>(next.number()) + 10, all.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const std::vector<Descriptor> part = posts[1]->receive(0);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &all), 0);
  EXPECT_TRUE(part.empty());
  EXPECT_TRUE(posts[1]->receive(0).empty());
  EXPECT_EQ(posts[0]->send(1, several), Post::Sent::never);
}

}  // namespace
}  // namespace ringtree::testing
