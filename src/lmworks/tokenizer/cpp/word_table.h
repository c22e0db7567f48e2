// How often each word occurs: a hash table whose memory follows the number of different words, not the text.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace lmworks {

class WordTable {
public:
    WordTable() : slots_(1 << 12, Slot{0, empty}) { measure(); }

    // `length` is below 2^32.
    void add(const uint8_t* word, uint32_t length, int64_t count) {
        const uint64_t hash = hash_of(word, length);
        const uint32_t tag = static_cast<uint32_t>(hash >> 32);
        const size_t mask = slots_.size() - 1;
        for (size_t at = hash & mask;; at = (at + 1) & mask) {
            Slot& slot = slots_[at];
            if (slot.word == empty) {
                slot = {tag, static_cast<uint32_t>(words_.size())};
                words_.push_back({bytes_.size(), count, length});
                bytes_.insert(bytes_.end(), word, word + length);
                if (words_.size() * 4 > slots_.size() * 3) grow();
                measure();
                return;
            }
            Word& found = words_[slot.word];
            if (slot.tag == tag && found.length == length && !std::memcmp(&bytes_[found.start], word, length)) {
                found.count += count;
                return;
            }
        }
    }

    int64_t size() const { return static_cast<int64_t>(words_.size()); }
    int64_t text_bytes() const { return static_cast<int64_t>(bytes_.size()); }
    // The only thing that may be asked while another thread adds words.
    int64_t memory() const { return memory_.load(std::memory_order_relaxed); }

    // The words, the most frequent first, equally frequent ones in the order of their bytes: the same for the same
    // counts, in whatever order they were counted. `bytes`, `ends` (of the words in `bytes`) and `counts` are written.
    void read(uint8_t* bytes, int64_t* ends, int64_t* counts) const {
        std::vector<uint32_t> order(words_.size());
        std::iota(order.begin(), order.end(), 0u);
        std::sort(order.begin(), order.end(), [this](uint32_t a, uint32_t b) {
            const Word &left = words_[a], &right = words_[b];
            if (left.count != right.count) return left.count > right.count;
            const int sign = std::memcmp(&bytes_[left.start], &bytes_[right.start], std::min(left.length, right.length));
            return sign ? sign < 0 : left.length < right.length;
        });
        int64_t end = 0;
        for (size_t i = 0; i < order.size(); ++i) {
            const Word& word = words_[order[i]];
            std::memcpy(bytes + end, &bytes_[word.start], word.length);
            ends[i] = end += word.length;
            counts[i] = word.count;
        }
    }

private:
    static constexpr uint32_t empty = UINT32_MAX;

    struct Slot {
        uint32_t tag, word;
    };
    struct Word {
        uint64_t start;
        int64_t count;
        uint32_t length;
    };

    static uint64_t mix(uint64_t a, uint64_t b) {
        const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
        return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    }

    static uint64_t hash_of(const uint8_t* word, uint32_t length) {
        uint64_t hash = 0x9E3779B97F4A7C15u ^ length;
        for (; length > 8; length -= 8, word += 8) {
            uint64_t part;
            std::memcpy(&part, word, 8);
            hash = mix(hash ^ part, 0xD6E8FEB86659FD93u);
        }
        uint64_t rest = 0;
        std::memcpy(&rest, word, length);
        return mix(hash ^ rest, 0xA0761D6478BD642Fu);
    }

    void measure() {
        const size_t held = slots_.capacity() * sizeof(Slot) + words_.capacity() * sizeof(Word) + bytes_.capacity();
        memory_.store(static_cast<int64_t>(held), std::memory_order_relaxed);
    }

    void grow() {
        std::vector<Slot> wider(slots_.size() * 2, Slot{0, empty});
        const size_t mask = wider.size() - 1;
        for (const Slot& slot : slots_) {
            if (slot.word == empty) continue;
            const Word& word = words_[slot.word];
            size_t at = hash_of(&bytes_[word.start], word.length) & mask;
            while (wider[at].word != empty) at = (at + 1) & mask;
            wider[at] = slot;
        }
        slots_.swap(wider);
    }

    std::vector<Slot> slots_;
    std::vector<Word> words_;
    std::vector<uint8_t> bytes_;
    std::atomic<int64_t> memory_{0};
};

}  // namespace lmworks
