// Where the words of a text end: GPT-2's rule (Radford et al. 2019, section 2.2) and GPT-4's, written out by hand.
//
// A general regular expression spends most of its time on deciding which branch it is in. The branches of these rules
// begin with characters of different classes, so that one look at a character or two decides. What is a letter, a
// number or a space is told by a table with one byte a code point, which the caller takes from the library that later
// encodes: the two cannot disagree about Unicode.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lmworks {

enum Class : uint8_t { other = 0, letter = 1, number = 2, space = 3 };

enum class Rule : int32_t {
    whole = 0,  // the text is one word
    gpt2 = 1,   // 's|'t|'re|'ve|'m|'ll|'d| ?L+| ?N+| ?[^sLN]+|s+(?!S)|s+, where s, L, N are space, letter, number
    gpt4 = 2,   // the same contractions in any case|[^\r\nLN]?L+|N+| ?[^sLN]+[\r\n]*|s*[\r\n]+|s+(?!S)|s+
    metaspace = 3,  // [\r\n]+|N+ where numbers are limited|a space and what follows up to the next of these
    smollm = 4,     // gpt2 on what lies between numbers, each of which is a word
};

class Scanner {
public:
    // `classes`: one for each of the 0x110000 code points. `digits`: numbers in one word, at most; 0 for any number of
    // them. A limit also takes the space before them away, which GPT-2's rule else has as a part of the word.
    Scanner(const uint8_t* classes, Rule rule, int32_t digits) : classes_(classes), rule_(rule), digits_(digits) {}

    // The end of the word that begins at `at`, which lies before `end`. The text is valid UTF-8.
    const uint8_t* word(const uint8_t* at, const uint8_t* end) const {
        switch (rule_) {
            case Rule::gpt2:
            case Rule::smollm: return gpt2(at, end);
            case Rule::gpt4: return gpt4(at, end);
            case Rule::metaspace: return metaspace(at, end);
            default: return end;
        }
    }

private:
    struct Character {
        Class kind;
        uint32_t width;  // in bytes; 0 at the end of the text
        uint32_t code;
    };

    Character read(const uint8_t* at, const uint8_t* end) const {
        if (at >= end) return {other, 0, 0};
        uint32_t code = *at, width = 1;
        if (code >= 0xF0) {
            code = (code & 7) << 18 | (at[1] & 63u) << 12 | (at[2] & 63u) << 6 | (at[3] & 63u), width = 4;
        } else if (code >= 0xE0) {
            code = (code & 15) << 12 | (at[1] & 63u) << 6 | (at[2] & 63u), width = 3;
        } else if (code >= 0x80) {
            code = (code & 31) << 6 | (at[1] & 63u), width = 2;
        }
        return {static_cast<Class>(classes_[code]), width, code};
    }

    const uint8_t* skip(const uint8_t* at, const uint8_t* end, Class kind) const {
        for (Character c = read(at, end); c.width && c.kind == kind; c = read(at, end)) at += c.width;
        return at;
    }

    const uint8_t* numbers(const uint8_t* at, const uint8_t* end) const {
        if (digits_ == 0) return skip(at, end, number);
        Character c = read(at, end);
        for (int32_t n = 0; n < digits_ && c.width && c.kind == number; ++n, c = read(at, end)) at += c.width;
        return at;
    }

    static bool is_break(uint32_t code) { return code == '\r' || code == '\n'; }

    static const uint8_t* breaks(const uint8_t* at, const uint8_t* end) {
        while (at < end && is_break(*at)) ++at;
        return at;
    }

    // Bytes of 's, 't, 'm, 'd, 're, 've or 'll at `at`, or 0. The long s (U+017F) is an s where case does not count.
    static size_t contraction(const uint8_t* at, const uint8_t* end, bool any_case) {
        const size_t left = static_cast<size_t>(end - at);
        if (left < 2 || at[0] != '\'') return 0;
        const uint8_t fold = any_case ? 0x20 : 0;
        if (any_case && left > 2 && at[1] == 0xC5 && at[2] == 0xBF) return 3;
        const uint8_t first = at[1] | fold;
        if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
        if (left < 3) return 0;
        const uint8_t second = at[2] | fold;
        const bool two = ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
        return two ? 3 : 0;
    }

    // Spaces, of which the last one is left to the word behind them.
    const uint8_t* spaces(const uint8_t* at, const uint8_t* end) const {
        const uint8_t *last = at, *next = at;
        Character c = read(next, end);
        for (; c.width && c.kind == space; c = read(next, end)) last = next, next += c.width;
        const bool apart = rule_ == Rule::smollm && c.kind == number;  // where numbers are cut out first, a text ends here
        return next == end || last == at || apart ? next : last;
    }

    const uint8_t* gpt2(const uint8_t* at, const uint8_t* end) const {
        if (size_t length = contraction(at, end, false)) return at + length;
        const uint8_t* start = *at == ' ' ? at + 1 : at;
        const Character c = read(start, end);
        if (c.width) {
            if (c.kind == letter) return skip(start + c.width, end, letter);
            if (c.kind == other) return skip(start + c.width, end, other);
            if (c.kind == number && (digits_ == 0 || start == at)) return numbers(start, end);
        }
        return spaces(at, end);
    }

    const uint8_t* gpt4(const uint8_t* at, const uint8_t* end) const {
        if (size_t length = contraction(at, end, true)) return at + length;
        const Character c = read(at, end);
        if (c.kind == letter) return skip(at + c.width, end, letter);
        if (c.kind == number) return numbers(at, end);
        if (!is_break(c.code)) {
            const Character next = read(at + c.width, end);
            if (next.width && next.kind == letter) return skip(at + c.width + next.width, end, letter);
            if (c.kind == other || (c.code == ' ' && next.width && next.kind == other)) {
                return breaks(skip(at + c.width, end, other), end);
            }
        }
        const uint8_t* last_break = nullptr;  // the end of the last line break among the spaces
        const uint8_t* next = at;
        for (Character s = read(next, end); s.width && s.kind == space; s = read(next, end)) {
            next += s.width;
            if (is_break(s.code)) last_break = next;
        }
        return last_break ? last_break : spaces(at, end);
    }

    const uint8_t* metaspace(const uint8_t* at, const uint8_t* end) const {
        if (is_break(*at)) return breaks(at, end);
        const Character first = read(at, end);
        if (digits_ && first.kind == number) return numbers(at, end);
        for (at += first.width; at < end && *at != ' ' && !is_break(*at);) {
            const Character c = read(at, end);
            if (digits_ && c.kind == number) break;
            at += c.width;
        }
        return at;
    }

    const uint8_t* classes_;
    Rule rule_;
    int32_t digits_;
};

}  // namespace lmworks
