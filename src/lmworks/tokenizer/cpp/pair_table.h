// Pairs of neighbouring tokens: how often each occurs, and where.
#pragma once

#include <cstdint>
#include <vector>

namespace lmworks {

using Position = uint32_t;

struct Pair {
    uint64_t key;
    int64_t count;
    std::vector<Position> positions;  // of the left token; some are out of date
};

inline uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
inline int32_t left_of(uint64_t key) { return static_cast<int32_t>(key >> 32); }
inline int32_t right_of(uint64_t key) { return static_cast<int32_t>(key & UINT32_MAX); }

class PairTable {
public:
    PairTable() : slots_(1 << 12, empty) {}

    // The number of a pair, or `empty`. A number holds until the pair is erased.
    uint32_t find(uint64_t key) const {
        for (size_t at = place(key);; at = (at + 1) & (slots_.size() - 1)) {
            if (slots_[at] == empty || pairs_[slots_[at]].key == key) return slots_[at];
        }
    }

    // The number of a pair, which is made where it is missing.
    uint32_t make(uint64_t key, bool& is_new) {
        size_t at = place(key);
        for (; slots_[at] != empty; at = (at + 1) & (slots_.size() - 1)) {
            if (pairs_[slots_[at]].key == key) return is_new = false, slots_[at];
        }
        is_new = true;
        uint32_t number;
        if (free_.empty()) {
            number = static_cast<uint32_t>(pairs_.size());
            pairs_.push_back({key, 0, {}});
        } else {
            number = free_.back();
            free_.pop_back();
            pairs_[number] = {key, 0, {}};
        }
        slots_[at] = number;
        if (++used_ * 4 > slots_.size() * 3) grow();
        return number;
    }

    void erase(uint32_t number) {
        const size_t mask = slots_.size() - 1;
        size_t hole = place(pairs_[number].key);
        while (slots_[hole] != number) hole = (hole + 1) & mask;
        // What stands behind the hole moves up, unless it would then stand before its own place.
        for (size_t next = (hole + 1) & mask; slots_[next] != empty; next = (next + 1) & mask) {
            if (((next - place(pairs_[slots_[next]].key)) & mask) >= ((next - hole) & mask)) {
                slots_[hole] = slots_[next];
                hole = next;
            }
        }
        slots_[hole] = empty;
        pairs_[number].positions = {};
        free_.push_back(number);
        --used_;
    }

    Pair& operator[](uint32_t number) { return pairs_[number]; }

    static constexpr uint32_t empty = UINT32_MAX;

private:
    size_t place(uint64_t key) const {
        return (key * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
    }

    void grow() {
        std::vector<uint32_t> wider(slots_.size() * 2, empty);
        slots_.swap(wider);
        for (uint32_t number : wider) {
            if (number == empty) continue;
            size_t at = place(pairs_[number].key);
            while (slots_[at] != empty) at = (at + 1) & (slots_.size() - 1);
            slots_[at] = number;
        }
    }

    std::vector<uint32_t> slots_;
    std::vector<Pair> pairs_;
    std::vector<uint32_t> free_;
    size_t used_ = 0;
};

}  // namespace lmworks
