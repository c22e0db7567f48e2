// Signatures by fast similarity sketching (Dahlgaard, Knudsen & Thorup 2017, algorithm 1): shingles are thrown into the
// places of the signature, turn after turn, until none is empty. reference.py has the definition.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "hashing.h"

namespace lmworks {

class Signer {
public:
    Signer(int64_t size, int64_t permutations, uint64_t seed) : size_(size), seed_(mix(seed)), least_(permutations) {}

    void sign(const uint64_t* words, int64_t number, uint32_t* to) {
        shingles_.clear();
        shingles_.reserve(static_cast<size_t>(number));
        for_each_shingle(words, number, size_, [this](uint64_t shingle) { shingles_.push_back(shingle ^ seed_); });
        std::fill(least_.begin(), least_.end(), kEmpty);
        for (uint64_t turn = 0; !shingles_.empty() && has_empty(); ++turn) {
            if (turn < least_.size()) {
                scatter(turn);
            } else {
                fill(turn, least_[turn - least_.size()]);
            }
        }
        for (size_t i = 0; i < least_.size(); ++i) to[i] = static_cast<uint32_t>(least_[i]);
    }

private:
    static constexpr uint64_t kEmpty = ~uint64_t{0};
    static constexpr uint64_t kStep = 0x9E3779B97F4A7C15u;
    static constexpr uint64_t kLower = 0xFFFFFFFFu;

    bool has_empty() const { return std::find(least_.begin(), least_.end(), kEmpty) != least_.end(); }

    // A later turn is a larger number, so that it changes no place which an earlier one has reached.
    void scatter(uint64_t turn) {
        const uint64_t offset = (turn + 1) * kStep, upper = turn << 32, places = least_.size();
        uint64_t* const least = least_.data();
        for (const uint64_t shingle : shingles_) {
            const uint64_t hash = mix(shingle + offset);
            uint64_t& place = least[((hash >> 32) * places) >> 32];
            place = std::min(place, upper | (hash & kLower));
        }
    }

    void fill(uint64_t turn, uint64_t& place) {
        const uint64_t offset = (turn + 1) * kStep, upper = turn << 32;
        for (const uint64_t shingle : shingles_) place = std::min(place, upper | (mix(shingle + offset) & kLower));
    }

    const int64_t size_;
    const uint64_t seed_;
    std::vector<uint64_t> shingles_, least_;
};

}  // namespace lmworks
