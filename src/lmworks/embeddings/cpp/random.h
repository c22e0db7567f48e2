// Random numbers that a few lines of any language can repeat: SplitMix64 (Steele, Lea & Flood 2014, figure 17).
#pragma once

#include <cstdint>

namespace lmworks {

class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }

    // 0 to number - 1, by the upper 32 bits of a draw.
    static uint32_t below(uint64_t draw, uint32_t number) { return static_cast<uint32_t>((draw >> 32) * number >> 32); }

private:
    uint64_t state_;
};

// Draws by Walker's alias method (1977): a column by the upper half of a number, and by the lower half which of the two
// words that share the column.
struct Alias {
    const uint32_t* limits;  // the column's own word up to and with this lower half
    const int32_t* others;
    uint32_t size;

    int32_t draw(uint64_t number) const {
        const uint32_t column = Random::below(number, size);
        return static_cast<uint32_t>(number) <= limits[column] ? static_cast<int32_t>(column) : others[column];
    }
};

}  // namespace lmworks
