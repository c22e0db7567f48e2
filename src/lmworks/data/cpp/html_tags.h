// The bytes of tags and comments: names, attributes, and where they end.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "html_kinds.h"
#include "html_text.h"

namespace lmworks::page {

// What the attributes of a tag say, beside names.
struct Attributes {
    bool hidden = false, link = false, closed = false;
};

// Reads a page from `at_` on.
class TagReader {
protected:
    explicit TagReader(std::string_view html) : html_(html) {}

    size_t find(char c, size_t from) const {
        if (from >= html_.size()) return html_.size();
        const void* found = std::memchr(html_.data() + from, c, html_.size() - from);
        return found ? static_cast<size_t>(static_cast<const char*>(found) - html_.data()) : html_.size();
    }
    char at(size_t place) const { return place < html_.size() ? html_[place] : '\0'; }
    static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

    std::string_view name_at(size_t from) {
        size_t size = 0;
        for (at_ = from; at_ < html_.size(); ++at_) {
            const char c = html_[at_];
            if (is_blank(c) || c == '>' || c == '/') break;
            if (size < name_.size()) name_[size] = lowered(c);
            ++size;
        }
        return size <= kLongestName ? std::string_view(name_.data(), size) : std::string_view("?");
    }

    // `-->`, or `--!>`, or `>` at once, as in `<!-->`; the end of the page for a comment without end.
    size_t comment_end(size_t from) const {
        if (at(from) == '>') return from + 1;
        if (at(from) == '-' && at(from + 1) == '>') return from + 2;
        for (size_t end = find('>', from); end < html_.size(); end = find('>', end + 1)) {
            if (end >= from + 2 && at(end - 1) == '-' && at(end - 2) == '-') return end + 1;
            if (end >= from + 3 && at(end - 1) == '!' && at(end - 2) == '-' && at(end - 3) == '-') return end + 1;
        }
        return html_.size();
    }

    // Where the end tag of this element begins; the end of the page where there is none.
    size_t end_tag_of(std::string_view name, size_t from) const {
        size_t end = find('<', from);
        while (end < html_.size() && !(at(end + 1) == '/' && is(html_.substr(end + 2, name.size()), name))) {
            end = find('<', end + 1);
        }
        return end;
    }

    // The attributes up to the end of the tag, which is where `at_` is then. Names are read where `naming`.
    Attributes read_attributes(bool naming) {
        Attributes found;
        while (at_ < html_.size()) {
            const char c = html_[at_];
            if (c == '>') {
                ++at_;
                break;
            }
            if (is_blank(c) || c == '/') {
                found.closed = c == '/';
                ++at_;
                continue;
            }
            found.closed = false;
            attribute(naming, found);
        }
        return found;
    }

    void attribute(bool naming, Attributes& found) {
        const size_t start = at_++;  // a name may begin with `=`
        while (at_ < html_.size() && !is_blank(html_[at_]) && !is_one_of(html_[at_], "=>/")) ++at_;
        const std::string_view name = html_.substr(start, at_ - start);
        size_t after = at_;
        while (is_blank(at(after))) ++after;
        std::string_view value;
        if (at(after) == '=') {
            at_ = after + 1;
            value = attribute_value();
        }
        if (is(name, "hidden")) {
            found.hidden = true;
        } else if (is(name, "style")) {
            found.hidden |= conceals(value);
        } else if (is(name, "href")) {
            found.link = true;
        } else if (naming && (is(name, "class") || is(name, "id") || is(name, "role") || is(name, "itemprop"))) {
            for (const char letter : value) names_ += lowered(letter);
            names_ += ' ';
        }
    }

    std::string_view attribute_value() {
        while (is_blank(at(at_))) ++at_;
        const char quote = at(at_);
        if (quote == '"' || quote == '\'') {
            const size_t start = at_ + 1;
            bool& gone = quote == '"' ? no_double_ : no_single_;
            const size_t end = gone ? html_.size() : find(quote, start);
            if (end < html_.size()) {
                at_ = end + 1;
                return html_.substr(start, end - start);
            }
            gone = true;  // a quotation without end: the tag ends all the same
        }
        const size_t start = at_;
        while (at_ < html_.size() && !is_blank(html_[at_]) && html_[at_] != '>') ++at_;
        return html_.substr(start, at_ - start);
    }

    static bool is_one_of(char c, const char* set) { return c && std::strchr(set, c); }

    static bool is(std::string_view name, std::string_view wanted) {
        return name.size() == wanted.size() &&
               std::equal(name.begin(), name.end(), wanted.begin(), [](char a, char b) { return lowered(a) == b; });
    }

    // Whether a style says `display: none`.
    static bool conceals(std::string_view style) {
        constexpr std::string_view kDisplay = "display", kNone = "none";
        const auto find_word = [style](std::string_view word, size_t from) {
            for (; from + word.size() <= style.size(); ++from) {
                if (lowered(style[from]) == word[0] && is(style.substr(from, word.size()), word)) return from;
            }
            return std::string_view::npos;
        };
        for (size_t from = 0; (from = find_word(kDisplay, from)) != std::string_view::npos;) {
            from += kDisplay.size();
            while (from < style.size() && is_space(style[from])) ++from;
            if (from >= style.size() || style[from] != ':') continue;
            ++from;
            while (from < style.size() && is_space(style[from])) ++from;
            if (is(style.substr(from, kNone.size()), kNone)) return true;
        }
        return false;
    }

    const std::string_view html_;
    size_t at_ = 0;
    std::string names_;  // of the last tag: its class, id, role and itemprop, in lower case

private:
    bool no_double_ = false, no_single_ = false;  // no further quotation mark of this kind
    std::array<char, kLongestName> name_{};
};

}  // namespace lmworks::page
