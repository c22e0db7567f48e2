// Texts to token ids by byte-level BPE: words are cut, looked up among those seen before, and merged only where new.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <queue>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "scan.h"

namespace lmworks {

// Of a pair of neighbours: the place of its merge in the order of learning, and the token that it makes.
struct Rank {
    int32_t rank, token;
};

// What all threads share and none changes.
class Vocabulary {
public:
    // `byte_tokens`: 256 ids, -1 for a byte that has no token and gives none. `words_first`: a word that is a token is
    // taken as it is, whatever merging would make of it; then `bytes` and `ends` hold the bytes of every token.
    Vocabulary(const int32_t* byte_tokens, const int32_t* lefts, const int32_t* rights, const int32_t* made,
               int64_t merges, const uint8_t* bytes, const int64_t* ends, int64_t tokens, bool words_first) {
        std::copy(byte_tokens, byte_tokens + 256, byte_tokens_);
        size_t size = 1024;
        while (size < static_cast<size_t>(merges) * 2) size *= 2;
        slots_.assign(size, Slot{free, {0, 0}});
        for (int64_t i = 0; i < merges; ++i) {
            const uint64_t key = key_of(lefts[i], rights[i]);
            size_t at = place(key);
            while (slots_[at].key != free && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
            slots_[at] = {key, {static_cast<int32_t>(i), made[i]}};
        }
        if (!words_first) return;
        text_.assign(bytes, bytes + (tokens ? ends[tokens - 1] : 0));
        int64_t start = 0;
        for (int64_t token = 0; token < tokens; start = ends[token++]) {
            if (ends[token] > start) {
                words_.emplace(std::string_view(reinterpret_cast<const char*>(text_.data()) + start, ends[token] - start),
                               static_cast<int32_t>(token));
            }
        }
    }

    int32_t byte_token(uint8_t byte) const { return byte_tokens_[byte]; }

    const Rank* find(int32_t left, int32_t right) const {
        const uint64_t key = key_of(left, right);
        for (size_t at = place(key); slots_[at].key != free; at = (at + 1) & (slots_.size() - 1)) {
            if (slots_[at].key == key) return &slots_[at].rank;
        }
        return nullptr;
    }

    // The token that a word is as a whole, or -1.
    int32_t whole(std::string_view word) const {
        if (words_.empty()) return -1;
        const auto found = words_.find(word);
        return found == words_.end() ? -1 : found->second;
    }

private:
    static constexpr uint64_t free = UINT64_MAX;
    struct Slot {
        uint64_t key;
        Rank rank;
    };

    static uint64_t key_of(int32_t left, int32_t right) {
        return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    }
    size_t place(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1); }

    int32_t byte_tokens_[256];
    std::vector<Slot> slots_;
    std::vector<uint8_t> text_;
    std::unordered_map<std::string_view, int32_t> words_;
};

// One thread's: it remembers what words became.
class Encoder {
public:
    Encoder(const Vocabulary& vocabulary, const Scanner& scanner) : vocabulary_(vocabulary), scanner_(scanner) {}

    // Writes the ids, at most one for each byte, and returns how many there are.
    int64_t encode(const uint8_t* text, int64_t size, int32_t* ids) {
        int32_t* out = ids;
        for (const uint8_t *at = text, *end = text + size; at < end;) {
            const uint8_t* next = scanner_.word(at, end);
            out = append(at, static_cast<size_t>(next - at), out);
            at = next;
        }
        return out - ids;
    }

private:
    static constexpr size_t remembered = 1 << 16, longest = 48;  // words, and bytes of one
    static constexpr size_t short_word = 64;                     // bytes up to which looking at every pair is fastest

    struct Known {
        uint8_t length = 0, count = 0;
        uint8_t bytes[longest];
        int32_t ids[12];
    };

    int32_t* append(const uint8_t* word, size_t length, int32_t* out) {
        if (length > longest) return merge(word, length, out);
        if (known_.empty()) known_.resize(remembered);
        uint64_t hash = length;
        for (size_t i = 0; i + 8 <= length; i += 8) hash = mix(hash, read(word + i, 8));
        if (length & 7) hash = mix(hash, read(word + (length & ~size_t{7}), length & 7));
        Known& known = known_[hash >> 48];  // one place for each word: the last one that came there is remembered
        if (known.length != length || std::memcmp(known.bytes, word, length) != 0) {
            int32_t* end = merge(word, length, out);
            const size_t count = static_cast<size_t>(end - out);
            if (count <= std::size(known.ids)) {
                known.length = static_cast<uint8_t>(length), known.count = static_cast<uint8_t>(count);
                std::memcpy(known.bytes, word, length);
                std::copy(out, end, known.ids);
            }
            return end;
        }
        return std::copy_n(known.ids, known.count, out);
    }

    static uint64_t read(const uint8_t* from, size_t length) {
        uint64_t part = 0;
        std::memcpy(&part, from, length);
        return part;
    }
    static uint64_t mix(uint64_t hash, uint64_t part) {
        hash = (hash ^ part) * 0x9E3779B97F4A7C15u;
        return (hash ^ hash >> 32) * 0xD6E8FEB86659FD93u;
    }

    int32_t* merge(const uint8_t* word, size_t length, int32_t* out) {
        const int32_t whole = vocabulary_.whole({reinterpret_cast<const char*>(word), length});
        if (whole >= 0) return *out = whole, out + 1;
        tokens_.clear();
        for (size_t i = 0; i < length; ++i) {
            if (const int32_t token = vocabulary_.byte_token(word[i]); token >= 0) tokens_.push_back(token);
        }
        if (tokens_.size() > short_word) {
            merge_long();
        } else {
            merge_short();
        }
        return std::copy(tokens_.begin(), tokens_.end(), out);
    }

    // Again and again the pair whose merge was learnt first, from the left.
    void merge_short() {
        size_t size = tokens_.size();
        const Rank* ranks[short_word];
        for (size_t i = 0; i + 1 < size; ++i) ranks[i] = vocabulary_.find(tokens_[i], tokens_[i + 1]);
        while (size > 1) {
            size_t best = size;
            for (size_t i = 0; i + 1 < size; ++i) {
                if (ranks[i] && (best == size || ranks[i]->rank < ranks[best]->rank)) best = i;
            }
            if (best == size) break;
            tokens_[best] = ranks[best]->token;
            for (size_t i = best + 1; i + 1 < size; ++i) tokens_[i] = tokens_[i + 1], ranks[i] = ranks[i + 1];
            --size;
            if (best > 0) ranks[best - 1] = vocabulary_.find(tokens_[best - 1], tokens_[best]);
            ranks[best] = best + 1 < size ? vocabulary_.find(tokens_[best], tokens_[best + 1]) : nullptr;
        }
        tokens_.resize(size);
    }

    // The same with a queue of pairs, for words of any length.
    void merge_long() {
        struct Pair {
            int32_t rank;
            uint32_t at;
            int32_t left, right, token;
            bool operator<(const Pair& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
        };
        if (tokens_.size() >= UINT32_MAX) throw std::bad_alloc();  // places have 32 bits
        const uint32_t size = static_cast<uint32_t>(tokens_.size());
        std::vector<uint32_t> before(size), after(size);
        for (uint32_t i = 0; i < size; ++i) before[i] = i - 1, after[i] = i + 1;  // -1 and `size` are ends
        std::priority_queue<Pair> queue;
        const auto push = [&](uint32_t at) {
            const uint32_t next = after[at];
            if (next >= size) return;
            if (const Rank* found = vocabulary_.find(tokens_[at], tokens_[next])) {
                queue.push({found->rank, at, tokens_[at], tokens_[next], found->token});
            }
        };
        for (uint32_t i = 0; i + 1 < size; ++i) push(i);
        while (!queue.empty()) {
            const Pair pair = queue.top();
            queue.pop();
            const uint32_t next = after[pair.at];
            if (tokens_[pair.at] != pair.left || next >= size || tokens_[next] != pair.right) continue;  // out of date
            tokens_[pair.at] = pair.token;
            tokens_[next] = gone;
            after[pair.at] = after[next];
            if (after[next] < size) before[after[next]] = pair.at;
            push(pair.at);
            if (before[pair.at] < size) push(before[pair.at]);
        }
        tokens_.erase(std::remove(tokens_.begin(), tokens_.end(), gone), tokens_.end());
    }

    static constexpr int32_t gone = -1;

    const Vocabulary& vocabulary_;
    Scanner scanner_;
    std::vector<Known> known_;
    std::vector<int32_t> tokens_;
};

}  // namespace lmworks
