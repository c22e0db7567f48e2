#include "team.h"

#include <thread>
#include <vector>

namespace lmworks {
namespace {

// Threads that wait for regions; the caller is the first of the team.
class Pool {
 public:
  explicit Pool(int size) : size(size), barrier_(size), taken_(size) {
    for (int thread = 1; thread < size; ++thread) threads_.emplace_back([this, thread] { serve(thread); });
  }

  ~Pool() {
    region_ = nullptr;
    started_.fetch_add(1);
    started_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void run(const std::function<void(Team&)>& region) {
    region_ = &region;
    barrier_.placement().here(0);
    started_.fetch_add(1);  // a whole fence before the notification, as in `Barrier`
    started_.notify_all();
    take_part(0);
  }

  const int size;

 private:
  static constexpr int kSpins = 4000;

  void take_part(int thread) {
    Team team(thread, size, barrier_, taken_.data());
    (*region_)(team);
    barrier_.wait(thread, [] {});  // nobody still reads what the caller is about to take away
  }

  void serve(int thread) {
    for (int seen = 0;;) {
      for (int spin = 0; spin < kSpins && started_.load(std::memory_order_acquire) == seen; ++spin) pause();
      while (started_.load(std::memory_order_acquire) == seen) started_.wait(seen, std::memory_order_acquire);
      barrier_.placement().part(thread);
      seen = started_.load(std::memory_order_acquire);
      if (region_ == nullptr) return;
      take_part(thread);
    }
  }

  Barrier barrier_;
  std::vector<Taken> taken_;
  const std::function<void(Team&)>* region_ = nullptr;
  alignas(64) std::atomic<int> started_{0};
  std::vector<std::thread> threads_;  // the last member: they use all the others
};

Pool* pool = nullptr;  // never destroyed: at exit there may be no threads left to join
int wanted_threads = std::max(1u, std::thread::hardware_concurrency());

Pool& ready_pool() {
  if (pool == nullptr || pool->size != wanted_threads) {
    delete pool;
    pool = new Pool(wanted_threads);
  }
  return *pool;
}

}  // namespace

void run_region(const std::function<void(Team&)>& region) { ready_pool().run(region); }

void run_alone(const std::function<void(Team&)>& region) {
  Barrier barrier(1);
  Taken taken;
  Team team(0, 1, barrier, &taken);
  region(team);
}

void abandon_threads() { pool = nullptr; }

void set_threads(int count) { wanted_threads = std::max(1, count); }

int threads() { return wanted_threads; }

}  // namespace lmworks
