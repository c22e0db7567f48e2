// What Python calls, through ctypes: plain C functions. A function that needs memory which is not there returns -1. Rows
// of values lie one after the other, and `ends` has one past the last value of each.

#include "exports.h"

#include <algorithm>
#include <memory>

#include "hashing.h"
#include "minhash.h"
#include "visits.h"
#include "winnow.h"
#include "page_features.h"

using namespace lmworks;

// The hashes of the words of texts, and how many there are up to the end of each text. Returns their number.
EXPORT int64_t lmworks_data_hash_words(const uint8_t* text, const int64_t* ends, int64_t texts, uint64_t* to,
                                       int64_t* to_ends) {
    int64_t found = 0, start = 0;
    for (int64_t i = 0; i < texts; start = ends[i++]) {
        found += hash_words(text + start, ends[i] - start, to + found);
        to_ends[i] = found;
    }
    return found;
}

// The shingles of rows of words, sorted and each once; there are at most as many as words. Returns their number.
EXPORT int64_t lmworks_data_shingle_sets(const uint64_t* words, const int64_t* ends, int64_t rows, int64_t size,
                                         uint64_t* to, int64_t* to_ends) {
    uint64_t* end = to;
    int64_t start = 0;
    for (int64_t i = 0; i < rows; start = ends[i++]) {
        uint64_t* const begin = end;
        for_each_shingle(words + start, ends[i] - start, size, [&end](uint64_t shingle) { *end++ = shingle; });
        std::sort(begin, end);
        end = std::unique(begin, end);
        to_ends[i] = end - to;
    }
    return end - to;
}

EXPORT int64_t lmworks_data_signatures(const uint64_t* words, const int64_t* ends, int64_t rows, int64_t size,
                                       int64_t permutations, uint64_t seed, uint32_t* to) {
    return guarded([&] {
        Signer signer(size, permutations, seed);
        int64_t start = 0;
        for (int64_t i = 0; i < rows; start = ends[i++]) {
            signer.sign(words + start, ends[i] - start, to + i * permutations);
        }
        return rows;
    });
}

// The windows of a text that tell where it may repeat another; there are at most as many as bytes. Returns their number.
EXPORT int64_t lmworks_data_winnow(const uint8_t* text, int64_t size, int64_t window, int64_t width, uint64_t* hashes,
                                   int64_t* places) {
    return guarded([&] { return winnow(text, size, window, width, hashes, places); });
}

// How often the automaton of a language identifier comes to each feature in a text. Returns the number of features.
EXPORT int64_t lmworks_data_count_visits(const uint32_t* next, const int64_t* rows, const int32_t* feature_of,
                                         const uint8_t* text, int64_t size, int32_t* found, int32_t* counts) {
    return guarded([&] { return count_visits(next, rows, feature_of, text, size, found, counts); });
}

// How many values the two sorted rows of each pair share.
EXPORT int64_t lmworks_data_common(const uint64_t* values, const int64_t* ends, const int64_t* pairs, int64_t number,
                                   int64_t* to) {
    const auto start = [ends](int64_t row) { return row ? ends[row - 1] : int64_t{0}; };
    for (int64_t i = 0; i < number; ++i) {
        int64_t a = start(pairs[2 * i]), b = start(pairs[2 * i + 1]), found = 0;
        const int64_t a_end = ends[pairs[2 * i]], b_end = ends[pairs[2 * i + 1]];
        while (a < a_end && b < b_end) {
            const uint64_t x = values[a], y = values[b];
            found += x == y;
            a += x <= y;
            b += y <= x;
        }
        to[i] = found;
    }
    return number;
}

// ---------------------------------------------------------------------------------------------------------------------
// Pages of HTML

// Reads a page of UTF-8. `sizes` are its blocks, elements of structure, pieces and the bytes of its text; `title` is
// where the title stands. The page is to be given back by `lmworks_data_close_page`.
EXPORT int64_t lmworks_data_read_page(const char* html, int64_t size, int64_t* sizes, int64_t* title, page::Page** to) {
    return guarded([&] {
        constexpr int64_t kNearlyEmpty = 500;
        const std::string_view bytes(html, static_cast<size_t>(size));
        auto read = std::make_unique<page::Page>();
        page::Scanner(bytes, false, *read).scan();
        if (2 * read->prose_hidden > 5 * read->prose_shown && read->prose_shown <= kNearlyEmpty) {
            read = std::make_unique<page::Page>();
            page::Scanner(bytes, true, *read).scan();
        }
        page::number_structure(*read);
        sizes[0] = static_cast<int64_t>(read->blocks.size());
        sizes[1] = static_cast<int64_t>(read->structure.size());
        sizes[2] = static_cast<int64_t>(read->pieces.size());
        sizes[3] = static_cast<int64_t>(read->text.size());
        title[0] = read->title.start;
        title[1] = read->title.end;
        *to = read.release();
        return int64_t{0};
    });
}

// What was read. A block is where its text ends, its first piece, its kind, the innermost element of structure around it
// (or -1), and whether that is what holds it. An element of structure is the one around it, its kind, and the start and
// end of its tag; a piece is a start and an end.
EXPORT int64_t lmworks_data_take_page(const page::Page* page, char* text, int64_t* blocks, int64_t* structure,
                                      int64_t* pieces, double* features, uint8_t* flags) {
    return guarded([&] {
        std::copy(page->text.begin(), page->text.end(), text);
        for (const page::Block& block : page->blocks) {
            const page::Holder& holder = page->holders[static_cast<size_t>(block.holder)];
            const bool own = holder.structure >= 0 && page->structure[static_cast<size_t>(holder.structure)] == block.holder;
            const int64_t values[] = {block.text_end, block.first_piece, holder.kind, holder.structure, int64_t{own}};
            blocks = std::copy(std::begin(values), std::end(values), blocks);
        }
        for (const int32_t number : page->structure) {
            const page::Holder& holder = page->holders[static_cast<size_t>(number)];
            const int64_t above = page->holders[static_cast<size_t>(holder.parent)].structure;
            const int64_t values[] = {above, holder.kind, holder.tag.start, holder.tag.end};
            structure = std::copy(std::begin(values), std::end(values), structure);
        }
        for (const page::Range& piece : page->pieces) *pieces++ = piece.start, *pieces++ = piece.end;
        page::Features(*page).write(features, flags);
        return int64_t{0};
    });
}

EXPORT int64_t lmworks_data_close_page(page::Page* page) {
    delete page;
    return 0;
}

// The name of a kind of element, "" for any other; null past the last.
EXPORT const char* lmworks_data_page_kind(int64_t kind) {
    return kind < page::kNumber ? page::kKinds[kind].name.data() : nullptr;
}
