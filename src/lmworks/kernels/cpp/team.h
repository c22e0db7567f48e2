// The threads that compute together. A call starts one region; inside it operations share out their items and wait for
// each other, so that a forward wakes the threads once and not at each of its hundreds of operations.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>

#include "placement.h"
#include "simd.h"

namespace lmworks {

// A meeting point that spins for some microseconds, as long as an operation's end takes, and then sleeps, so that a
// busy machine is not ruined by threads that wait for one that does not run.
class Barrier {
 public:
  explicit Barrier(int members) : members_(members), placement_(members) {}

  // The last to arrive calls `meanwhile`, while all others still wait.
  template <class Meanwhile>
  void wait(int thread, Meanwhile meanwhile) {
    placement_.here(thread);
    const int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == members_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      meanwhile();
      // A whole fence: before the store is seen, a notification may find nobody waiting, and who then looks at the old
      // round would sleep for ever.
      round_.exchange(round + 1, std::memory_order_seq_cst);
      round_.notify_all();
      return;
    }
    for (int spin = 0; spin < kSpins; ++spin) {
      if (round_.load(std::memory_order_acquire) != round) return;
      pause();
    }
    while (round_.load(std::memory_order_acquire) == round) round_.wait(round, std::memory_order_acquire);
    placement_.part(thread);
  }

  Placement& placement() { return placement_; }

 private:
  static constexpr int kSpins = 2000;
  const int members_;
  Placement placement_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> round_{0};
};

// The items that each thread has taken so far, on a cache line of its own.
struct alignas(64) Taken {
  std::atomic<int64_t> count{0};
};

// One thread's view of the team.
class Team {
 public:
  Team(int thread, int size, Barrier& barrier, Taken* taken)
      : thread(thread), size(size), barrier_(barrier), taken_(taken) {}

  const int thread, size;

  // Calls `work(item)` for every item below `items`, on whichever thread, and returns when all are done.
  //
  // Each thread owns a run of neighbours, which keeps its reads in order, and then helps the others: on a shared
  // machine one core may be slow. Which thread computes an item changes nothing in its result.
  template <class Work>
  void share(int64_t items, Work work) {
    for (int helped = 0; helped < size; ++helped) {
      const int owner = (thread + helped) % size;
      const int64_t begin = items * owner / size, end = items * (owner + 1) / size;
      std::atomic<int64_t>& taken = taken_[owner].count;
      for (int64_t item; (item = begin + taken.fetch_add(1, std::memory_order_relaxed)) < end;) work(item);
    }
    barrier_.wait(thread, [this] {
      for (int owner = 0; owner < size; ++owner) taken_[owner].count.store(0, std::memory_order_relaxed);
    });
  }

 private:
  Barrier& barrier_;
  Taken* taken_;
};

// Runs `region` on all threads at once and returns when all have. Not to be called by two threads at a time.
void run_region(const std::function<void(Team&)>& region);

void run_alone(const std::function<void(Team&)>& region);   // on the caller's thread

void abandon_threads();       // in a child after fork, which has the pool but not its threads
void set_threads(int count);  // from the next region on
int threads();

}  // namespace lmworks
