// All ways to cut words into pieces, and what a Unigram model (Kudo 2018, section 3.2) makes of them: how often each
// piece is expected to be used (forward–backward), and how often the best segmentation uses it (Viterbi).
//
// Nothing is looked up while a vocabulary is learnt. Each cell knows which pieces begin there, from the order of the
// suffixes that has found the pieces; as pieces are dropped, these lists become shorter.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "unigram_seeds.h"

namespace lmworks {

class Lattice {
public:
    // The pieces are the symbols of the alphabet, and behind them the seeds. Words are counted in `blocks` parts, with
    // which several threads may be busy at once.
    Lattice(const Words& words, int32_t alphabet, int32_t longest, int64_t least, size_t limit, int32_t blocks)
        : words_(words), alphabet_(alphabet) {
        const Seeds found(words_, alphabet, longest, least, limit);
        count_symbols();
        for (const Seed& seed : found.seeds()) {
            pieces_.push_back({seed.frequency, found.suffixes()[seed.first], seed.length});
        }
        link(found);
        divide(blocks);
    }

    int64_t size() const { return static_cast<int64_t>(pieces_.size()); }

    // Where each piece is spelt, how many symbols it has, and how often it occurs.
    void read(Position* begins, int32_t* lengths, int64_t* frequencies) const {
        for (size_t i = 0; i < pieces_.size(); ++i) {
            begins[i] = pieces_[i].begin, lengths[i] = pieces_[i].length, frequencies[i] = pieces_[i].frequency;
        }
    }

    // Adds to `expected` how often each piece is used on average over all segmentations of a block's words, weighted by
    // their probability, the product of their pieces'. Returns the log-likelihood of the words.
    double expect(int32_t block, const double* probability, double* expected) const {
        std::vector<double> forward, backward;
        std::vector<int32_t> scaled;
        double likelihood = 0;
        words_.each(blocks_[block], blocks_[block + 1], [&](Position start, Position end, int64_t times) {
            const Position length = end - start;
            forward.assign(length + 1, 0.0), backward.assign(length + 1, 0.0), scaled.assign(length + 1, 0);
            const double whole = sum_forward(start, end, probability, forward.data(), scaled.data());
            likelihood += static_cast<double>(times) * (std::log(whole) - scaled[length] * std::log(scale));
            int32_t exponent = 0;
            backward[length] = 1.0;
            for (Position s = length; s-- > 0;) {
                // Both sums are scaled; their product is to be as a share of the whole.
                const int32_t excess = scaled[s] + exponent - scaled[length];
                double share = static_cast<double>(times) * (forward[s] / whole);
                if (excess) share = std::ldexp(share, -scale_bits * excess);
                double sum = 0;
                each_edge(start + s, end, [&](uint32_t piece, Position next) {
                    const double rest = probability[piece] * backward[next - start];
                    sum += rest;
                    expected[piece] += share * rest;
                });
                backward[s] = sum;
                exponent += rescale(backward.data(), s, std::min(length, s + longest_edge_));
            }
        });
        return likelihood;
    }

    // Adds to `counts` how often each piece is used in the best segmentations of a block's words.
    void best(int32_t block, const double* score, int64_t* counts) const {
        Search search;
        words_.each(blocks_[block], blocks_[block + 1], [&](Position start, Position end, int64_t times) {
            search_best(start, end, score, false, search);
            for (Position at = end - start; at > 0; at = search.from[at]) counts[search.piece[at]] += times;
        });
    }

    // For each piece that is no symbol of the alphabet the best segmentation into other pieces, one behind the other;
    // `ends` are their ends. A piece has at most as many others as symbols.
    void alternatives(const double* score, int64_t* ends, uint32_t* others) const {
        Search search;
        int64_t written = 0;
        for (size_t i = 0; i < pieces_.size(); ++i) {
            if (const Piece& piece = pieces_[i]; piece.length > 1) {
                search_best(piece.begin, piece.begin + piece.length, score, true, search);
                for (Position at = static_cast<Position>(piece.length); at > 0; at = search.from[at]) {
                    others[written++] = search.piece[at];
                }
            }
            ends[i] = written;
        }
    }

    // Drops the pieces without a mark, which may not be symbols of the alphabet; the others move up.
    void keep(const uint8_t* marked) {
        std::vector<uint32_t> number(pieces_.size());
        uint32_t kept = 0;
        for (size_t i = 0; i < pieces_.size(); ++i) {
            number[i] = kept;
            if (marked[i]) pieces_[kept++] = pieces_[i];
        }
        pieces_.resize(kept);
        uint32_t written = 0, at = 0;
        for (Position cell = 0; cell < words_.size; ++cell) {
            for (const uint32_t end = edges_from_[cell + 1]; at < end; ++at) {
                if (marked[edges_[at]]) edges_[written++] = number[edges_[at]];
            }
            edges_from_[cell + 1] = written;
        }
        edges_.resize(written);
        measure();
    }

private:
    // Sums along a word shrink with its length; where one falls below 2^-256, it and those that it adds to grow by 2^256.
    static constexpr int32_t scale_bits = 256;
    static constexpr double scale = 0x1p256;

    struct Piece {
        int64_t frequency;
        Position begin;
        int32_t length;
    };
    struct Search {
        std::vector<double> score;
        std::vector<uint32_t> piece;  // the last one of the best segmentation up to a place, and where it begins
        std::vector<Position> from;
    };

    // The pieces that begin at a cell and end up to `end`, the shorter first: `visit(piece, next cell)`.
    template <typename Visit>
    void each_edge(Position at, Position end, Visit visit) const {
        visit(static_cast<uint32_t>(words_.cells[at]), at + 1);
        for (uint32_t i = edges_from_[at]; i < edges_from_[at + 1]; ++i) {
            const Position next = at + static_cast<Position>(pieces_[edges_[i]].length);
            if (next > end) break;
            visit(edges_[i], next);
        }
    }

    static int32_t rescale(double* sums, Position first, Position last) {
        if (sums[first] * scale >= 1.0) return 0;
        for (Position at = first; at <= last; ++at) sums[at] *= scale;
        return 1;
    }

    // The probability of each beginning of a word, scaled as often as `scaled` says; that of the whole is returned.
    double sum_forward(Position start, Position end, const double* probability, double* forward,
                       int32_t* scaled) const {
        const Position length = end - start;
        int32_t exponent = 0;
        forward[0] = 1.0;
        for (Position s = 0; s <= length; ++s) {
            exponent += rescale(forward, s, std::min(length, s + longest_edge_));
            scaled[s] = exponent;
            if (s == length) break;
            each_edge(start + s, end, [&](uint32_t piece, Position next) {
                forward[next - start] += forward[s] * probability[piece];
            });
        }
        return forward[length];
    }

    // Of equally good segmentations the one whose last piece is the longest. `others`: the stretch itself is no piece.
    void search_best(Position start, Position end, const double* score, bool others, Search& search) const {
        const Position length = end - start;
        search.score.assign(length + 1, -std::numeric_limits<double>::infinity());
        search.piece.resize(length + 1), search.from.resize(length + 1);
        search.score[0] = 0;
        for (Position s = 0; s < length; ++s) {
            each_edge(start + s, end, [&](uint32_t piece, Position next) {
                const Position to = next - start;
                const double sum = search.score[s] + score[piece];
                if (sum <= search.score[to] || (others && to - s == length)) return;
                search.score[to] = sum, search.piece[to] = piece, search.from[to] = s;
            });
        }
    }

    void count_symbols() {
        pieces_.assign(alphabet_, {0, 0, 1});
        words_.each(0, words_.size, [&](Position start, Position end, int64_t times) {
            for (Position at = start; at < end; ++at) {
                pieces_[words_.cells[at]].frequency += times;
                pieces_[words_.cells[at]].begin = at;
            }
        });
    }

    // Tells each cell the pieces that begin there.
    void link(const Seeds& found) {
        std::vector<uint32_t> shorter_first(found.seeds().size());
        for (size_t i = 0; i < shorter_first.size(); ++i) shorter_first[i] = static_cast<uint32_t>(i);
        std::stable_sort(shorter_first.begin(), shorter_first.end(), [&](uint32_t a, uint32_t b) {
            return found.seeds()[a].length < found.seeds()[b].length;
        });
        uint64_t edges = 0;
        for (const Seed& seed : found.seeds()) edges += seed.last - seed.first;
        if (edges > UINT32_MAX) throw std::bad_alloc();
        edges_from_.assign(words_.size + 1, 0);
        edges_.resize(edges);
        for (const Seed& seed : found.seeds()) {
            for (Position i = seed.first; i < seed.last; ++i) ++edges_from_[found.suffixes()[i]];
        }
        uint32_t end = 0;
        for (uint32_t& from : edges_from_) end += std::exchange(from, end);
        for (const uint32_t number : shorter_first) {  // afterwards, each cell's entry is where the next one's edges begin
            const Seed& seed = found.seeds()[number];
            for (Position i = seed.first; i < seed.last; ++i) {
                edges_[edges_from_[found.suffixes()[i]]++] = static_cast<uint32_t>(alphabet_) + number;
            }
        }
        std::rotate(edges_from_.begin(), edges_from_.end() - 1, edges_from_.end());
        edges_from_.front() = 0;
        measure();
    }

    void measure() {
        longest_edge_ = 1;
        for (const Piece& piece : pieces_) longest_edge_ = std::max(longest_edge_, static_cast<Position>(piece.length));
    }

    // Block b has the words from number n * b / blocks on.
    void divide(int32_t blocks) {
        int64_t number = 0;
        words_.each(0, words_.size, [&](Position, Position, int64_t) { ++number; });
        int64_t at = 0;
        words_.each(0, words_.size, [&](Position start, Position, int64_t) {
            while (static_cast<int64_t>(blocks_.size()) < blocks && at >= number * int64_t(blocks_.size()) / blocks) {
                blocks_.push_back(start);
            }
            ++at;
        });
        blocks_.resize(blocks + 1, words_.size);
    }

    Words words_;
    int32_t alphabet_;
    Position longest_edge_ = 1;
    std::vector<Piece> pieces_;
    std::vector<uint32_t> edges_from_;  // of each cell: where its pieces begin in `edges_`
    std::vector<uint32_t> edges_;
    std::vector<Position> blocks_;
};

}  // namespace lmworks
