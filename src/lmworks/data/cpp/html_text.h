// The text of a block, counted while it is taken from the page: white space as one space, a character reference as one
// character.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace lmworks::page {

inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f'); }
inline bool is_name_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline char lowered(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

struct Reference {
    size_t size = 0;  // bytes; 0 where none begins
    uint32_t code = 'x';  // of the character, where it is one that counts as a mark
};

// The character reference at the beginning of the text (HTML standard, section 13.2.5.72), which has to end with a
// semicolon. Only names of marks are read.
inline Reference reference_at(std::string_view text) {
    constexpr size_t kLongest = 33;
    size_t end = 1;
    while (end < text.size() && end < kLongest && (is_name_letter(text[end]) || is_digit(text[end]) || text[end] == '#')) {
        ++end;
    }
    if (end < 3 || end >= text.size() || text[end] != ';') return {};
    const std::string_view name = text.substr(1, end - 1);
    Reference found{end + 1};
    if (name[0] == '#') {
        const bool hexadecimal = name[1] == 'x' || name[1] == 'X';
        uint32_t code = 0;
        for (size_t i = hexadecimal ? 2 : 1; i < name.size() && code < 0x110000; ++i) {
            const char c = lowered(name[i]);
            if (!is_digit(c) && !(hexadecimal && c >= 'a' && c <= 'f')) return {};
            code = code * (hexadecimal ? 16 : 10) + static_cast<uint32_t>(is_digit(c) ? c - '0' : c - 'a' + 10);
        }
        found.code = code;
        return found;
    }
    struct Named {
        std::string_view name;
        uint32_t code;
    };
    constexpr Named kNamed[] = {{"nbsp", ' '},      {"quot", '"'},      {"apos", '\''},    {"rdquo", 0x201D},
                                {"rsquo", 0x2019},  {"raquo", 0xBB},    {"hellip", 0x2026}, {"emsp", ' '},
                                {"ensp", ' '},      {"thinsp", ' '}};
    for (const auto& [known, code] : kNamed) {
        if (name == known) found.code = code;
    }
    return found;
}

// Counts of one block.
struct Counts {
    int64_t characters = 0;  // with white space as one; those of Chinese, Japanese and Korean say more and count twice
    int64_t linked = 0;      // of them, inside of links
    int32_t spaces = 0;
    int32_t commas = 0;
    int32_t closing = -1;  // marks that close, after one that ends a sentence; -1 where the text ends in something else

    // A character that is no space.
    void add(uint32_t code, bool after_space) {
        characters += code >= 0x3000 && code <= 0xD7A3 ? 2 : 1;
        switch (code) {
            case '.': case '!': case '?': case ':': case 0x2026: case 0x3002: case 0xFF01: case 0xFF1F: case 0x61F:
            case 0x964:
                closing = 0;
                break;
            case '"': case '\'': case 0x201D: case 0x2019: case 0xBB: case ')': case ']': case 0x300D: case 0x300F:
                closing = closing < 0 || after_space ? -1 : closing + 1;
                break;
            case ',': case ';': case 0x60C: case 0x3001: case 0xFF0C:
                ++commas;
                [[fallthrough]];
            default:
                closing = -1;
        }
    }

    bool ends_a_sentence() const { return closing >= 0 && closing <= 3; }
};

// Takes text in, run by run.
class TextWriter {
public:
    explicit TextWriter(std::string& to) : to_(to) {}

    Counts counts;

    void begin() {
        counts = {};
        start_ = to_.size();
        space_ = false;
    }

    bool empty() const { return to_.size() == start_; }
    size_t start() const { return start_; }
    void space() { space_ = true; }

    // Returns the characters of the run, without white space around them.
    int64_t add(std::string_view run, bool in_link) {
        bool any = false;
        int64_t before = 0;
        for (size_t at = 0; at < run.size();) {
            const auto byte = static_cast<uint8_t>(run[at]);
            size_t size = 1;
            uint32_t code = byte;
            if (byte == '&') {
                const Reference reference = reference_at(run.substr(at));
                if (reference.size) size = reference.size, code = reference.code;
            } else if (byte >= 0x80) {
                code = decode(run.substr(at), size);
            }
            if (code == 0xA0 || (code < 0x80 && is_space(static_cast<char>(code)))) {
                space_ = true;
            } else {
                if (!any) before = counts.characters + (space_ && !empty());
                any = true;
                write(run.substr(at, size), code);
            }
            at += size;
        }
        if (!any) return 0;
        const int64_t taken = counts.characters - before;
        if (in_link) counts.linked += taken;
        return taken;
    }

private:
    void write(std::string_view bytes, uint32_t code) {
        const bool after_space = space_ && !empty();
        if (after_space) {
            to_ += ' ';
            ++counts.spaces;
            ++counts.characters;
        }
        space_ = false;
        to_.append(bytes);
        counts.add(code, after_space);
    }

    // One character of UTF-8, or a byte that is none.
    static uint32_t decode(std::string_view text, size_t& size) {
        const auto first = static_cast<uint8_t>(text[0]);
        const size_t wanted = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
        if (wanted == 1 || text.size() < wanted) return 0xFFFD;
        uint32_t code = first & (0xFFu >> (wanted + 1));
        for (size_t i = 1; i < wanted; ++i) {
            const auto next = static_cast<uint8_t>(text[i]);
            if ((next & 0xC0) != 0x80) return 0xFFFD;
            code = (code << 6) | (next & 0x3Fu);
        }
        size = wanted;
        return code;
    }

    std::string& to_;
    size_t start_ = 0;
    bool space_ = false;
};

}  // namespace lmworks::page
