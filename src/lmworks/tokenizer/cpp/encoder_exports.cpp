// What Python calls to encode texts, through ctypes. A function that needs memory which is not there returns -1.

#include <cstdint>

#include "encoder.h"
#include "exports.h"

using namespace lmworks;

EXPORT void* lmworks_vocabulary_new(const int32_t* byte_tokens, const int32_t* lefts, const int32_t* rights,
                                    const int32_t* made, int64_t merges, const uint8_t* bytes, const int64_t* ends,
                                    int64_t tokens, int32_t words_first) {
    try {
        return new Vocabulary(byte_tokens, lefts, rights, made, merges, bytes, ends, tokens, words_first != 0);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
EXPORT void lmworks_vocabulary_free(void* vocabulary) { delete static_cast<Vocabulary*>(vocabulary); }

EXPORT void* lmworks_encoder_new(const void* vocabulary, const uint8_t* classes, int32_t rule, int32_t digits) {
    const Scanner scanner(classes, static_cast<Rule>(rule), digits);
    return new (std::nothrow) Encoder(*static_cast<const Vocabulary*>(vocabulary), scanner);
}
EXPORT void lmworks_encoder_free(void* encoder) { delete static_cast<Encoder*>(encoder); }

// Encodes texts that end at `ends`: `ids` has room for one a byte, `id_ends` is where those of each text end.
EXPORT int64_t lmworks_encoder_encode(void* encoder, const uint8_t* texts, const int64_t* ends, int64_t number,
                                      int32_t* ids, int64_t* id_ends) {
    return guarded([&] {
        int64_t start = 0, written = 0;
        for (int64_t text = 0; text < number; start = ends[text++]) {
            written += static_cast<Encoder*>(encoder)->encode(texts + start, ends[text] - start, ids + written);
            id_ends[text] = written;
        }
        return written;
    });
}
