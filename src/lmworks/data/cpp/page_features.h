// What the choice of main text looks at: for each block some numbers about its text, its place and its neighbours.
// features.py has the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "html_scanner.h"

namespace lmworks::page {

constexpr int64_t kFeatures = 16;  // columns; the last is left to Python, which knows the words
enum BlockFlags : uint8_t { kIsBoilerplate = 1, kIsCaption = 2 };

class Features {
public:
    explicit Features(const Page& page) : page_(page), places_(page.holders.size()) {
        for (const Block& block : page.blocks) {
            const int64_t prose = std::max(int64_t{0}, block.counts.characters - block.counts.linked);
            prose_.push_back(prose);
            long_.push_back(prose >= kLong && block.counts.linked <= prose);
        }
        find_places();
        most_ = mark_container();
        find_inner();
    }

    // A row of `kFeatures` values for each block, and BlockFlags.
    void write(double* rows, uint8_t* flags) const {
        for (size_t i = 0; i < page_.blocks.size(); ++i) {
            row(i, rows + static_cast<int64_t>(i) * kFeatures);
            const Place& place = place_of(i);
            flags[i] = static_cast<uint8_t>((place.boilerplate || place.around ? kIsBoilerplate : 0) |
                                            (place.caption ? kIsCaption : 0));
        }
    }

private:
    // What a block element says of all blocks in it.
    struct Place {
        bool boilerplate = false, around = false, caption = false, within = false;
        int32_t named = kFar;
        double prose = 0;
    };
    static constexpr int32_t kFar = 9;
    static constexpr double kMajority = 0.5, kVastMajority = 0.9, kContainer = 0.7;

    const Holder& holder_of(size_t block) const { return page_.holders[static_cast<size_t>(page_.blocks[block].holder)]; }
    const Place& place_of(size_t block) const { return places_[static_cast<size_t>(page_.blocks[block].holder)]; }
    static bool is(const Holder& holder, std::string_view name) { return kKinds[holder.kind].name == name; }

    // For each element, what all blocks in it come to.
    std::vector<int64_t> sums(const std::vector<int64_t>& amounts) const {
        std::vector<int64_t> found(page_.holders.size());
        for (size_t i = 0; i < amounts.size(); ++i) found[static_cast<size_t>(page_.blocks[i].holder)] += amounts[i];
        for (size_t h = found.size(); h-- > 1;) found[static_cast<size_t>(page_.holders[h].parent)] += found[h];
        return found;
    }

    void find_places() {
        std::vector<int64_t> amounts(prose_);
        for (size_t i = 0; i < amounts.size(); ++i) amounts[i] *= long_[i];
        const std::vector<int64_t> in_all = sums(amounts);
        for (size_t h = 0; h < places_.size(); ++h) {
            const Holder& holder = page_.holders[h];
            const Place above = holder.parent >= 0 ? places_[static_cast<size_t>(holder.parent)] : Place{};
            const uint8_t flags = kKinds[holder.kind].flags;
            const double share = holder.names & kDiscussion ? kVastMajority : kMajority;
            const bool named = holder.names & kBoilerplate;
            const bool whole =
                (flags & kWhole) || static_cast<double>(in_all[h]) > share * static_cast<double>(in_all[0]);
            places_[h].boilerplate = above.boilerplate || (named && !whole);
            places_[h].around = above.around || ((flags & kAround) && !whole);
            places_[h].caption = above.caption || is(holder, "figcaption");
            places_[h].named = whole ? kFar : named ? 0 : above.named + 1;
        }
    }

    bool is_section(int32_t number) const {
        const Holder& holder = page_.holders[static_cast<size_t>(number)];
        return is(holder, "section") || (is(holder, "div") && (holder.names & kSection));
    }

    double mark_container() {
        std::vector<int64_t> counted(prose_.size());
        int64_t total = 0;
        for (size_t i = 0; i < counted.size(); ++i) {
            const Place& place = place_of(i);
            if (!long_[i] || place.boilerplate || place.around || place.caption) continue;
            counted[i] = prose_[i];
            total += prose_[i];
            const Holder& holder = holder_of(i);
            const int32_t near = holder.parent < 0 || is(holder, "div") ? page_.blocks[i].holder : holder.parent;
            const int32_t far = page_.holders[static_cast<size_t>(near)].parent;
            places_[static_cast<size_t>(near)].prose += static_cast<double>(prose_[i]);
            if (far >= 0) places_[static_cast<size_t>(far)].prose += static_cast<double>(prose_[i]) / 2;
        }
        if (total == 0) return 1;
        const std::vector<int64_t> in_all = sums(counted);
        const double enough = kContainer * static_cast<double>(total);
        int32_t best = 0;
        for (size_t h = 0; h < in_all.size(); ++h) {
            const bool deeper = page_.holders[h].depth > page_.holders[static_cast<size_t>(best)].depth;
            if (deeper && static_cast<double>(in_all[h]) >= enough) best = static_cast<int32_t>(h);
        }
        const Holder& found = page_.holders[static_cast<size_t>(best)];
        const bool paragraph = is(found, "p") || is(found, "li") || is(found, "td") || is(found, "blockquote");
        if (paragraph && found.parent >= 0) best = found.parent;
        for (int32_t around = best; around >= 0 && is_section(around);) {
            best = around;
            around = page_.holders[static_cast<size_t>(around)].parent;
        }
        double most = 0;
        for (size_t h = 0; h < places_.size(); ++h) {
            const int32_t parent = page_.holders[h].parent;
            places_[h].within = static_cast<int32_t>(h) == best || (parent >= 0 && places_[static_cast<size_t>(parent)].within);
            most = std::max(most, places_[h].prose);
        }
        return most;
    }

    void find_inner() {
        first_ = 0;
        last_ = prose_.size();
        bool any = false;
        for (size_t i = 0; i < prose_.size(); ++i) {
            if (!long_[i] || !place_of(i).within || place_of(i).boilerplate) continue;
            if (!any) first_ = i;
            any = true;
            last_ = i;
        }
    }

    double near_prose(size_t block) const { return std::log1p(static_cast<double>(prose_[block])) / 5; }

    void row(size_t i, double* to) const {
        const Counts& counts = page_.blocks[i].counts;
        const Holder& holder = holder_of(i);
        const Place& place = place_of(i);
        const double above = holder.parent >= 0 ? places_[static_cast<size_t>(holder.parent)].prose : place.prose;
        const auto characters = static_cast<double>(counts.characters);
        const double links = std::min(1.0, static_cast<double>(counts.linked) / characters);
        const bool quoted = is(holder, "pre") || is(holder, "blockquote") || is(holder, "td") || is(holder, "th");
        const double values[kFeatures] = {
            1,
            std::log1p(std::min(characters / 6, 100.0)),
            links,
            counts.ends_a_sentence() ? 1.0 : 0.0,
            std::min(3, counts.commas) / 3.0,
            kKinds[holder.kind].flags & kHeading ? 1.0 : 0.0,
            is(holder, "li") ? 1.0 : 0.0,
            quoted ? 1.0 : 0.0,
            place.within ? 1.0 : 0.0,
            i < first_ || i > last_ ? 1.0 : 0.0,
            std::max(place.prose, above) / most_,
            i > 0 ? near_prose(i - 1) : 0.0,
            i + 1 < prose_.size() ? near_prose(i + 1) : 0.0,
            links > 0.7 && counts.spaces > 2 ? 1.0 : 0.0,
            place.named <= 2 ? 1.0 : 0.0,
            0,
        };
        std::copy(values, values + kFeatures, to);
    }

    const Page& page_;
    std::vector<Place> places_;
    std::vector<int64_t> prose_;
    std::vector<uint8_t> long_;
    double most_ = 1;
    size_t first_ = 0, last_ = 0;
};

}  // namespace lmworks::page
