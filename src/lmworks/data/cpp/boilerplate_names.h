// Whether the class and id of an element say that it holds what stands around the main text, or a section of it.
// features.py has the definition.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lmworks::page {

enum NameFlags : uint8_t { kBoilerplate = 1, kDiscussion = 2, kSection = 4 };

namespace names {

enum Where : uint8_t { kAnywhere, kAnywhereAndDiscussion, kBeginning, kWhole, kOwnSection };

struct Word {
    std::string_view word;
    Where where;
};

constexpr Word kWords[] = {
    {"comment", kAnywhereAndDiscussion}, {"disqus", kAnywhereAndDiscussion}, {"livefyre", kAnywhereAndDiscussion},
    {"addthis", kAnywhere}, {"advert", kAnywhere}, {"author", kAnywhere}, {"banner", kAnywhere},
    {"breadcrumb", kAnywhere}, {"byline", kAnywhere}, {"consent", kAnywhere}, {"cookie", kAnywhere},
    {"copyright", kAnywhere}, {"correction", kAnywhere}, {"credit", kAnywhere}, {"disclaimer", kAnywhere},
    {"excerpt", kAnywhere}, {"footer", kAnywhere}, {"gdpr", kAnywhere}, {"hidden", kAnywhere}, {"login", kAnywhere},
    {"masthead", kAnywhere}, {"menu", kAnywhere}, {"modal", kAnywhere}, {"more-", kAnywhere},
    {"most-read", kAnywhere}, {"most-viewed", kAnywhere}, {"newsletter", kAnywhere}, {"outbrain", kAnywhere},
    {"pagination", kAnywhere}, {"popular", kAnywhere}, {"popup", kAnywhere}, {"print-", kAnywhere},
    {"promo", kAnywhere}, {"read-more", kAnywhere}, {"read-next", kAnywhere}, {"readmore", kAnywhere},
    {"readnext", kAnywhere}, {"recirc", kAnywhere}, {"recommend", kAnywhere}, {"related", kAnywhere},
    {"share", kAnywhere}, {"sharing", kAnywhere}, {"sidebar", kAnywhere}, {"sign-up", kAnywhere},
    {"signup", kAnywhere}, {"social", kAnywhere}, {"sponsor", kAnywhere}, {"subscri", kAnywhere},
    {"taboola", kAnywhere}, {"teaser", kAnywhere}, {"timestamp", kAnywhere}, {"toolbar", kAnywhere},
    {"trending", kAnywhere}, {"widget", kAnywhere},
    {"nav", kBeginning}, {"search", kBeginning},
    {"ad", kWhole}, {"ads", kWhole}, {"bio", kWhole}, {"meta", kWhole}, {"rail", kWhole}, {"respond", kWhole},
    {"tag", kWhole}, {"tags", kWhole},
    {"appendix", kOwnSection}, {"chapter", kOwnSection}, {"preface", kOwnSection}, {"section", kOwnSection},
};  // clang-format keeps the rows

inline bool is_letter(char c) { return c >= 'a' && c <= 'z'; }

inline bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r'; }

// The words by their first letter.
inline const std::array<std::vector<Word>, 26>& by_letter() {
    static const auto table = [] {
        std::array<std::vector<Word>, 26> made;
        for (const Word& word : kWords) made[static_cast<size_t>(word.word[0] - 'a')].push_back(word);
        return made;
    }();
    return table;
}

}  // namespace names

// NameFlags of names in lower case.
inline uint8_t flags_of_names(std::string_view text) {
    using namespace names;
    const auto& words = by_letter();
    uint8_t found = 0;
    for (size_t at = 0; at < text.size(); ++at) {
        if (!is_letter(text[at])) continue;
        for (const auto& [word, where] : words[static_cast<size_t>(text[at] - 'a')]) {
            if (text.compare(at, word.size(), word) != 0) continue;
            if (where >= kBeginning && at > 0 && is_letter(text[at - 1])) continue;
            const size_t after = at + word.size();
            if (where == kWhole && after < text.size() && is_letter(text[after])) continue;
            if (where == kOwnSection) {
                const bool own = (at == 0 || is_space(text[at - 1])) && (after == text.size() || is_space(text[after]));
                if (own) found |= kSection;
                continue;
            }
            found |= where == kAnywhereAndDiscussion ? kBoilerplate | kDiscussion : kBoilerplate;
        }
    }
    return found;
}

}  // namespace lmworks::page
