// The stretches of symbols that may become pieces of a Unigram vocabulary (Kudo 2018, section 3.2): the frequent ones,
// of which those are left out that one and the same symbol always follows, since they never stand alone.
//
// The suffixes of all words are sorted by their first symbols. Those that begin with the same stretch then lie side by
// side, and a stretch that different symbols follow is one at whose length two neighbours part. A stack of the stretches
// that are open at a place finds all of them in one walk (Abouelhoda, Kurtz & Ohlebusch 2004, section 2).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace lmworks {

using Position = uint32_t;

// Words in symbols: cells of -1 before, between and behind them. From cell `run_starts[i]` on words occur
// `run_weights[i]` times each. All arrays are the caller's, who keeps them.
struct Words {
    const int32_t* cells;
    Position size;
    const Position* run_starts;
    const int64_t* run_weights;
    int64_t runs;

    // Calls `visit(start, end, times)` for the words from the cell `begin` on, up to `end`.
    template <typename Visit>
    void each(Position begin, Position end, Visit visit) const {
        const Position* next_run = std::upper_bound(run_starts, run_starts + runs, begin);
        for (Position at = begin; at < end;) {
            if (cells[at] < 0) {
                ++at;
                continue;
            }
            while (next_run != run_starts + runs && *next_run <= at) ++next_run;
            Position stop = at;
            while (cells[stop] >= 0) ++stop;
            visit(at, stop, run_weights[next_run - run_starts - 1]);
            at = stop;
        }
    }
};

// A stretch of `length` symbols, with which the suffixes from `first` to before `last`, in their order, begin.
struct Seed {
    int64_t frequency;
    Position first, last;
    int32_t length;

    int64_t score() const { return frequency * length; }
    // The order of seeds: the higher score; of equal ones the stretch that comes first in the order of the symbols.
    bool operator<(const Seed& other) const {
        if (score() != other.score()) return score() > other.score();
        return first != other.first ? first < other.first : length < other.length;
    }
};

class Seeds {
public:
    // Stretches of 2 to `longest` symbols that occur at least `least` times, the best `limit` of them.
    Seeds(const Words& words, int32_t alphabet, int32_t longest, int64_t least, size_t limit)
        : words_(words), longest_(longest) {
        sort(alphabet);
        find(least, limit);
    }

    const std::vector<Position>& suffixes() const { return suffixes_; }  // where each begins, in their order
    const std::vector<Seed>& seeds() const { return seeds_; }

private:
    // A word's symbols from a place on, packed: as many as fit. Most comparisons end here.
    struct Suffix {
        uint64_t key;
        Position at;
    };

    void sort(int32_t alphabet) {
        const int32_t bits = std::max(1, static_cast<int32_t>(std::bit_width(static_cast<uint32_t>(alphabet))));
        const int32_t packed = std::min(64 / bits, longest_ + 1);
        std::vector<Suffix> order;
        uint64_t key = 0;
        for (Position at = words_.size; at-- > 0;) {  // the end of a word is 0, which sorts before any symbol
            if (words_.cells[at] < 0) {
                key = 0;
                continue;
            }
            key = static_cast<uint64_t>(words_.cells[at] + 1) << bits * (packed - 1) | key >> bits;
            order.push_back({key, at});
        }
        const uint64_t last_symbol = (uint64_t{1} << bits) - 1;
        std::sort(order.begin(), order.end(), [&](const Suffix& left, const Suffix& right) {
            if (left.key != right.key) return left.key < right.key;
            if (!(left.key & last_symbol)) return false;  // both have ended
            const int32_t *a = words_.cells + left.at, *b = words_.cells + right.at;
            for (int32_t i = packed; i <= longest_; ++i) {
                if (a[i] != b[i]) return a[i] < b[i];
                if (a[i] < 0) return false;
            }
            return false;
        });
        suffixes_.reserve(order.size());
        for (const Suffix& suffix : order) suffixes_.push_back(suffix.at);
    }

    // Symbols up to the end of the word, or `longest_ + 1` of them.
    int32_t length(Position at) const {
        int32_t length = 0;
        while (length <= longest_ && words_.cells[at + length] >= 0) ++length;
        return length;
    }

    int32_t common(Position left, Position right) const {
        const int32_t *a = words_.cells + left, *b = words_.cells + right;
        int32_t length = 0;
        while (length <= longest_ && a[length] >= 0 && a[length] == b[length]) ++length;
        return length;
    }

    void find(int64_t least, size_t limit) {
        struct Open {
            int32_t length;
            Position first;
            int64_t before;  // how often the suffixes before `first` occur
        };
        std::vector<int64_t> times(words_.size);  // of a cell's word
        words_.each(0, words_.size, [&](Position start, Position end, int64_t weight) {
            std::fill(times.begin() + start, times.begin() + end, weight);
        });
        std::vector<Open> open;
        const Position number = static_cast<Position>(suffixes_.size());
        int64_t seen = 0;
        for (Position i = 0; i <= number; ++i) {
            const int32_t shared = i == 0 || i == number ? 0 : common(suffixes_[i - 1], suffixes_[i]);
            Open last = i ? Open{0, i - 1, seen - times[suffixes_[i - 1]]} : Open{0, 0, 0};
            for (; !open.empty() && open.back().length > shared; open.pop_back()) {
                last = open.back();
                const int64_t frequency = seen - last.before;
                if (last.length < 2 || last.length > longest_ || frequency < least) continue;
                seeds_.push_back({frequency, last.first, i, last.length});
                if (seeds_.size() >= 2 * limit + 1024) keep_best(limit);
            }
            if (i == number) break;
            if (shared > 0 && (open.empty() || open.back().length < shared)) {
                open.push_back({shared, last.first, last.before});
            }
            const int32_t whole = length(suffixes_[i]);
            if (whole <= longest_ && (open.empty() || open.back().length < whole)) open.push_back({whole, i, seen});
            seen += times[suffixes_[i]];
        }
        keep_best(limit);
        std::sort(seeds_.begin(), seeds_.end());
    }

    void keep_best(size_t limit) {
        if (seeds_.size() <= limit) return;
        std::nth_element(seeds_.begin(), seeds_.begin() + limit, seeds_.end());
        seeds_.resize(limit);
    }

    const Words& words_;
    int32_t longest_;
    std::vector<Position> suffixes_;
    std::vector<Seed> seeds_;
};

}  // namespace lmworks
