// On which processor each thread of a team runs, and how two of them part that were put on one.
//
// A scheduler may wake a thread on the processor of the thread that woke it. There the two take turns: one meets the
// other at a barrier, sleeps, and lets it run. Since only one of them can run at a time, nothing tells the scheduler
// that it should part them, and a second processor stands idle for many milliseconds. This happens when anything else,
// such as a server that hands on a token, runs for a moment in between.
#pragma once

#include <atomic>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace lmworks {

class Placement {
 public:
  explicit Placement(int members) : places_(members) {}

  // To be called by each thread now and then; it costs nanoseconds.
  void here(int thread) { places_[thread].processor.store(current(), std::memory_order_relaxed); }

  // To be called by a thread that has slept: if one with a lower number runs here too, this one goes elsewhere.
  void part(int thread) {
    here(thread);
    for (int other = 0; other < thread; ++other) {
      if (place(other) == place(thread)) {
        leave(thread);
        return;
      }
    }
  }

 private:
  // On a cache line of its own.
  struct alignas(64) Place {
    std::atomic<int> processor{-1};
  };

  int place(int thread) const { return places_[thread].processor.load(std::memory_order_relaxed); }

#ifdef __linux__
  static int current() { return sched_getcpu(); }

  // To a processor that no other thread of the team was seen on, if there is one, else to any other. What the thread
  // may use is the same afterwards.
  void leave(int thread) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    cpu_set_t free = allowed, others = allowed;
    for (const Place& one : places_) {
      const int processor = one.processor.load(std::memory_order_relaxed);
      if (processor >= 0 && processor < CPU_SETSIZE) CPU_CLR(processor, &free);
    }
    CPU_CLR(place(thread), &others);
    const cpu_set_t& wanted = CPU_COUNT(&free) > 0 ? free : others;
    if (CPU_COUNT(&wanted) == 0) return;
    if (sched_setaffinity(0, sizeof wanted, &wanted) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
    here(thread);
  }
#else
  static int current() { return -1; }
  void leave(int) {}
#endif

  std::vector<Place> places_;
};

}  // namespace lmworks
