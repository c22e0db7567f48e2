// Learns merges (Sennrich et al. 2016, section 3.2): again and again, the most frequent pair of neighbouring tokens
// becomes one token. Of equally frequent pairs the one with the smaller ids is taken, the left ones compared first.
//
// All different words lie one after the other in `cells`, one cell for each of their first symbols, with a cell of -1
// before, between and behind them. A token writes its id into the first and the last of its cells, so that the
// neighbours on both sides are found at once, whatever the length of the word. A pair knows where it has occurred;
// whether it still does, two looks at the cells tell. So a merge costs what it changes, and nothing is counted twice.
//
// No two merges make a token of the same spelling. Wherever such a stretch of symbols has not been merged with what stands
// around it, the merges so far have cut it in the same way, since pairs are merged from the left and know no context. So
// the first merge that makes the token makes it everywhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <queue>
#include <vector>

#include "pair_table.h"

namespace lmworks {

struct Merge {
    int32_t left, right;
    int64_t count;
};

class MergeLearner {
public:
    // The words from `run_starts[i]` on occur `run_weights[i]` times each. `alphabet`: ids of the first symbols are
    // below it. Pairs that occur less than `least` times are never merged, nor such that make more than `longest`
    // symbols, unless that is 0. `cells` is the caller's and is changed.
    MergeLearner(int32_t* cells, Position size, const Position* run_starts, const int64_t* run_weights, int64_t runs,
                 int32_t alphabet, int64_t least, int32_t longest)
        : cells_(cells), size_(size), run_starts_(run_starts, run_starts + runs),
          run_weights_(run_weights, run_weights + runs), least_(std::max<int64_t>(least, 1)), longest_(longest) {
        for (int32_t symbol = 0; symbol < alphabet; ++symbol) spellings_.push_back({symbol});
        first_of_block_.resize(size_ / block + 2);
        for (size_t at = 0, run = 0; at < first_of_block_.size(); ++at) {
            while (run + 1 < run_starts_.size() && run_starts_[run + 1] <= at * block) ++run;
            first_of_block_[at] = static_cast<uint32_t>(run);
        }
        count_pairs();
    }

    // What must never become a token: a special token's symbols.
    void forbid(const int32_t* symbols, int32_t length) { forbidden_.emplace_back(symbols, symbols + length); }

    // So many further merges, or less where no more can be learnt.
    int64_t learn(int64_t merges, Merge* learnt) {
        int64_t done = 0;
        while (done < merges && !queue_.empty()) {
            const Candidate best = queue_.top();
            queue_.pop();
            const uint32_t number = pairs_.find(best.key);
            if (number == PairTable::empty) continue;
            if (pairs_[number].count != best.count) {  // it can only have become rarer
                queue_.push({pairs_[number].count, best.key});
                continue;
            }
            const int32_t left = left_of(best.key), right = right_of(best.key);
            std::vector<int32_t> spelling = spellings_[left];
            spelling.insert(spelling.end(), spellings_[right].begin(), spellings_[right].end());
            const std::vector<Position> positions = std::move(pairs_[number].positions);
            pairs_.erase(number);
            if (longest_ > 0 && static_cast<int32_t>(spelling.size()) > longest_) continue;
            if (std::find(forbidden_.begin(), forbidden_.end(), spelling) != forbidden_.end()) continue;
            spellings_.push_back(std::move(spelling));
            merge(left, right, static_cast<int32_t>(spellings_.size()) - 1, positions);
            learnt[done++] = {left, right, best.count};
        }
        return done;
    }

private:
    static constexpr int32_t inner = -2;  // a cell in the middle of a token
    static constexpr Position block = 256;

    struct Candidate {
        int64_t count;
        uint64_t key;
        bool operator<(const Candidate& other) const {
            return count != other.count ? count < other.count : key > other.key;
        }
    };

    int32_t length(int32_t token) const { return static_cast<int32_t>(spellings_[token].size()); }

    int64_t weight(Position at) const {
        uint32_t run = first_of_block_[at / block];
        while (run + 1 < run_starts_.size() && run_starts_[run + 1] <= at) ++run;
        return run_weights_[run];
    }

    void merge(int32_t left, int32_t right, int32_t token, const std::vector<Position>& positions) {
        const Position left_length = length(left), right_length = length(right);
        touched_.clear();
        for (const Position at : positions) {  // ascending: of "aaa" the first two are merged
            if (cells_[at] != left) continue;
            const Position middle = at + left_length;
            if (cells_[middle] != right) continue;
            const Position after = middle + right_length;
            const int64_t times = weight(at);
            const int32_t before = cells_[at - 1], next = cells_[after];
            if (before >= 0) {
                decrease(key_of(before, left), times, token);
                increase(key_of(before, token), at - length(before), times);
            }
            if (next >= 0) {
                decrease(key_of(right, next), times, token);
                increase(key_of(token, next), at, times);
            }
            cells_[middle - 1] = cells_[middle] = inner;
            cells_[at] = cells_[after - 1] = token;
        }
        queue_or_erase();
    }

    void increase(uint64_t key, Position at, int64_t times) {
        bool is_new;
        const uint32_t number = pairs_.make(key, is_new);
        if (is_new) touched_.push_back(number);
        pairs_[number].count += times;
        pairs_[number].positions.push_back(at);
    }

    void decrease(uint64_t key, int64_t times, int32_t token) {
        const uint32_t number = pairs_.find(key);
        if (number == PairTable::empty) return;  // too rare, or the pair that is being merged
        Pair& pair = pairs_[number];
        pair.count -= times;
        if (pair.count < least_ && left_of(key) != token && right_of(key) != token) pairs_.erase(number);
    }

    // Pairs that were made just now wait for their turn, unless they are too rare for ever having one: after the merge
    // that makes a pair, it only becomes rarer.
    void queue_or_erase() {
        for (uint32_t number : touched_) {
            if (pairs_[number].count < least_) {
                pairs_.erase(number);
            } else {
                pairs_[number].positions.shrink_to_fit();
                queue_.push({pairs_[number].count, pairs_[number].key});
            }
        }
    }

    // Counts the pairs of the first symbols, in two passes, so that no list is larger than it must be.
    void count_pairs() {
        std::vector<uint32_t> sizes;
        for (Position at = 1; at + 1 < size_; ++at) {
            if (cells_[at] < 0 || cells_[at + 1] < 0) continue;
            bool is_new;
            const uint32_t number = pairs_.make(key_of(cells_[at], cells_[at + 1]), is_new);
            if (is_new) {
                touched_.push_back(number);
                sizes.push_back(0);
            }
            pairs_[number].count += weight(at);
            ++sizes[number];
        }
        for (uint32_t number : touched_) {
            if (pairs_[number].count >= least_) pairs_[number].positions.reserve(sizes[number]);
        }
        for (Position at = 1; at + 1 < size_; ++at) {
            if (cells_[at] < 0 || cells_[at + 1] < 0) continue;
            Pair& pair = pairs_[pairs_.find(key_of(cells_[at], cells_[at + 1]))];
            if (pair.count >= least_) pair.positions.push_back(at);
        }
        queue_or_erase();
    }

    int32_t* cells_;
    Position size_;
    std::vector<Position> run_starts_;
    std::vector<int64_t> run_weights_;
    std::vector<uint32_t> first_of_block_;  // the run in which a block of cells begins
    int64_t least_;
    int32_t longest_;
    PairTable pairs_;
    std::priority_queue<Candidate> queue_;
    std::vector<uint32_t> touched_;
    std::vector<std::vector<int32_t>> spellings_;  // of each token, in first symbols
    std::vector<std::vector<int32_t>> forbidden_;
};

}  // namespace lmworks
