// Memory that operations need between their input and their output. It grows to the largest step and is kept.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

namespace lmworks {

constexpr int64_t round_up(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// An array without a beginning content, on a cache line. `reserve` may throw away what it holds.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  ~Buffer() { std::free(data_); }

  T* reserve(int64_t size) {
    if (size > size_) {
      std::free(data_);
      size_ = 0;
      data_ = static_cast<T*>(std::aligned_alloc(64, round_up(size * sizeof(T), 64)));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = size;
    }
    return data_;
  }

  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace lmworks
