// A page of HTML as blocks: the runs of text between the starts and ends of block elements, in one pass over the bytes.
// It knows of the HTML standard (section 13.2) what decides where text stands: comments, raw text, attributes, end tags
// that may be left out. Its time grows with the bytes alone, whatever they are. blocks.py has the definition.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "boilerplate_names.h"
#include "html_kinds.h"
#include "html_tags.h"
#include "html_text.h"

namespace lmworks::page {

// A half-open range of bytes of the page.
struct Range {
    int64_t start = 0, end = 0;
};

// An open block element. One lies before all that are in it.
struct Holder {
    int32_t parent = -1;
    uint8_t kind = 0;
    uint8_t names = 0;  // NameFlags
    int32_t depth = 0;
    Range tag;                // where its start tag stands
    int32_t structure = -1;  // the innermost of `Page::structure` that it is or is in
};

struct Block {
    int64_t text_end = 0;  // in `Page::text`
    int64_t first_piece = 0;
    int32_t holder = 0;
    Counts counts;
};

struct Page {
    std::string text;  // of all blocks, with the character references of the page
    std::vector<Block> blocks;
    std::vector<Holder> holders;
    std::vector<int32_t> structure;  // the holders that say what their text is: lists, tables, headings, ...
    std::vector<Range> pieces;  // of the page, which the blocks consist of
    Range title;
    int64_t prose_shown = 0, prose_hidden = 0;  // characters of long runs
};

// Numbers the elements of structure. What is nested too deeply to be read is not one.
inline void number_structure(Page& page) {
    constexpr uint8_t kDeepest = 32;
    std::vector<uint8_t> depths(page.holders.size());
    for (size_t h = 1; h < page.holders.size(); ++h) {
        Holder& holder = page.holders[h];
        const auto parent = static_cast<size_t>(holder.parent);
        depths[h] = depths[parent];
        holder.structure = page.holders[parent].structure;
        if ((kKinds[holder.kind].flags & kStructure) && depths[h] < kDeepest) {
            ++depths[h];
            holder.structure = static_cast<int32_t>(page.structure.size());
            page.structure.push_back(static_cast<int32_t>(h));
        }
    }
}

constexpr int64_t kLong = 80;  // characters from which on a run of text is prose

class Scanner : private TagReader {
public:
    Scanner(std::string_view html, bool show_hidden, Page& page)
        : TagReader(html), show_hidden_(show_hidden), page_(page), writer_(page.text) {}

    void scan() {
        page_.holders.push_back({-1, kBody, 0, 0, {}, -1});
        stack_.push_back({kBody, 0, false});
        writer_.begin();
        while (at_ < html_.size()) {
            const size_t open = find('<', at_);
            if (open > at_) text({at_, open});
            at_ = open;
            if (at_ < html_.size()) markup();
        }
        flush(html_.size());
    }

private:
    struct Open {
        uint8_t kind;
        int32_t holder;
        bool hidden;
    };
    struct Stretch {
        size_t start, end;
    };
    static constexpr size_t kDeepest = 512;  // open elements; those further in are not told apart
    static constexpr size_t kSearched = 64;  // open elements in which an end tag that was left out is looked for

    void text(Stretch run) {
        const std::string_view bytes = html_.substr(run.start, run.end - run.start);
        if (left_out_) return;
        if (hidden()) {
            page_.prose_hidden += prose(bytes);
            return;
        }
        const int64_t taken = writer_.add(bytes, in_link_ > 0);
        if (taken >= kLong) page_.prose_shown += taken;
    }

    static int64_t prose(std::string_view bytes) {
        if (bytes.size() < kLong) return 0;
        std::string unused;
        TextWriter counting(unused);
        counting.begin();
        const int64_t taken = counting.add(bytes, false);
        return taken >= kLong ? taken : 0;
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Tags

    void markup() {
        const size_t start = at_;
        const char next = at(start + 1);
        if (is_name_letter(next)) {
            start_tag(start);
        } else if (next == '/' && is_name_letter(at(start + 2))) {
            end_tag(start);
        } else if (next == '!' && at(start + 2) == '-' && at(start + 3) == '-') {
            cut(start, comment_end(start + 4));
        } else if (next == '!' || next == '?' || next == '/') {
            cut(start, std::min(html_.size(), find('>', start + 2) + 1));
        } else {
            text({start, start + 1});
            at_ = start + 1;
        }
    }

    void start_tag(size_t start) {
        const uint8_t kind = find_kind(name_at(start + 1));
        const uint8_t flags = kKinds[kind].flags;
        names_.clear();
        const Attributes attributes = read_attributes(flags & kBlock);
        const auto tag = Range{static_cast<int64_t>(start), static_cast<int64_t>(at_)};
        if (flags & kRaw) return raw(start, kind);
        if (kind == kBody) return;
        close_before(kind, start);
        const bool conceals = attributes.hidden && !show_hidden_ && kind != 0;
        if (!kind || (attributes.hidden && show_hidden_)) cut(start, at_);  // says nothing, or would hide what is shown
        if (flags & kBlock) {
            if (!silent()) flush(start);
            if (flags & kVoid) return;
            push_block(kind, tag, conceals, attributes.closed);
        } else if (flags & kVoid) {
            if (kind == kBreak && !silent()) writer_.space();
        } else if (attributes.closed) {
            return;
        } else if ((flags & kLeftOut) || conceals || kind == kRuby || (silent() && kind == stack_.back().kind)) {
            push_inline(kind, conceals, flags & kLeftOut, start);
        } else if (kind == kLink && attributes.link && !silent()) {
            in_link_ = stack_.size();
        }
    }

    void end_tag(size_t start) {
        const uint8_t kind = find_kind(name_at(start + 2));
        const uint8_t flags = kKinds[kind].flags;
        at_ = std::min(html_.size(), find('>', at_) + 1);
        const bool heading = flags & kKinds[stack_.back().kind].flags & kHeading;  // any of them ends any of them
        const size_t open = heading ? stack_.size() - 1 : index_of(kind);
        if (kind == kLink && !open_[kind]) in_link_ = 0;
        if (open) return pop_to(open, start);
        if (kind == kBreak && !silent()) writer_.space();
        if (kind == kParagraph && !silent()) return flush(start);  // stands for an empty paragraph
        if (!kind || (flags & (kBlock | kLeftOut))) cut(start, at_);  // it ends nothing
    }

    // Which open element an end tag ends; 0 for none.
    size_t index_of(uint8_t kind) {
        if (!kind || kind == kBody || !open_[kind]) return 0;
        if (overflow_[kind]) {
            --overflow_[kind];
            --open_[kind];
            return 0;
        }
        const uint8_t rank = kKinds[kind].rank;
        for (size_t i = stack_.size() - 1; i > 0; --i) {
            if (stack_[i].kind == kind) return i;
            if (kKinds[stack_[i].kind].rank > rank) return 0;
        }
        return 0;
    }

    // The content of a script and the like, up to its end tag; a script without it goes on to the end of the page.
    void raw(size_t start, uint8_t kind) {
        const size_t content = at_;
        const bool needs_end = kind != kScript && kind != kStyle;
        const size_t end = needs_end && no_end_[kind] ? html_.size() : end_tag_of(kKinds[kind].name, content);
        if (end == html_.size() && needs_end) {
            no_end_[kind] = true;
            return cut(start, content);
        }
        if (kind == kTitle && page_.title.end == 0) page_.title = {int64_t(content), int64_t(end)};
        cut(start, std::min(html_.size(), find('>', end) + 1));
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Open elements

    bool hidden() const { return stack_.back().hidden; }
    bool silent() const { return hidden() || left_out_; }

    void push(uint8_t kind, int32_t holder, bool hidden) {
        stack_.push_back({kind, holder, hidden});
        ++open_[kind];
    }

    void push_block(uint8_t kind, Range tag, bool conceals, bool closed) {
        if (stack_.size() >= kDeepest) {
            if (!closed) ++overflow_[kind], ++open_[kind];
            return;
        }
        int32_t holder = stack_.back().holder;
        if (!silent()) {
            const int32_t depth = page_.holders[static_cast<size_t>(holder)].depth + 1;
            page_.holders.push_back({holder, kind, flags_of_names(names_), depth, tag, -1});
            holder = static_cast<int32_t>(page_.holders.size() - 1);
        }
        piece_ = at_;
        if (!closed) push(kind, holder, hidden() || conceals);
    }

    void push_inline(uint8_t kind, bool conceals, bool left_out, size_t start) {
        if (stack_.size() >= kDeepest) {
            ++overflow_[kind];
            ++open_[kind];
            return;
        }
        if (!silent() && (conceals || left_out)) end_piece(start);
        left_out_ += left_out;
        push(kind, stack_.back().holder, hidden() || conceals);
    }

    // Ends the elements from this one on, whose end tag, or what implies it, begins at `place`.
    void pop_to(size_t index, size_t place) {
        for (size_t i = stack_.size(); i-- > index;) {
            const Open gone = stack_[i];
            const bool was_silent = silent();
            const uint8_t flags = kKinds[gone.kind].flags;
            if ((flags & kBlock) && !was_silent) flush(place);
            stack_.pop_back();
            --open_[gone.kind];
            left_out_ -= (flags & kLeftOut) != 0;
            if (was_silent != silent() || (flags & kBlock)) piece_ = at_;
        }
        if (in_link_ > stack_.size()) in_link_ = 0;
    }

    // What the start of an element ends without an end tag (HTML standard, section 13.1.2.4).
    void close_before(uint8_t kind, size_t start) {
        const auto& kinds = implied();
        if ((kKinds[kind].flags & kBlock) && stack_.back().kind == kParagraph) pop_to(stack_.size() - 1, start);
        if ((kKinds[kind].flags & kHeading) && (kKinds[stack_.back().kind].flags & kHeading)) {
            pop_to(stack_.size() - 1, start);
        }
        const uint8_t group = kinds.group[kind];
        if (!group) return;
        const size_t least = stack_.size() > kSearched ? stack_.size() - kSearched : 1;
        for (size_t i = stack_.size(); i-- > least;) {
            const uint8_t open = stack_[i].kind;
            if (kinds.closed_by[open] & group) {
                pop_to(i, start);
                if (!(kinds.closes_several & group)) return;
            } else if (kinds.barrier[open] & group) {
                return;
            }
        }
    }

    struct Implied {
        std::array<uint8_t, kNumber> group{}, closed_by{}, barrier{};
        uint8_t closes_several = 0;
    };

    static const Implied& implied() {
        static const Implied made = [] {
            constexpr uint8_t kItem = 1, kTerm = 2, kCell = 4, kRow = 8, kRows = 16, kRubyText = 32;
            Implied table;
            table.closes_several = kRow | kRows;
            const auto each = [](std::array<uint8_t, kNumber>& where, uint8_t group, const auto&... names) {
                ((where[find_kind(names)] |= group), ...);
            };
            each(table.group, kItem, "li"), each(table.closed_by, kItem, "li");
            each(table.barrier, kItem, "ul", "ol", "menu", "dir", "table", "td", "th");
            each(table.group, kTerm, "dd", "dt"), each(table.closed_by, kTerm, "dd", "dt");
            each(table.barrier, kTerm, "dl", "table", "td", "th");
            each(table.group, kCell, "td", "th"), each(table.closed_by, kCell, "td", "th", "caption");
            each(table.barrier, kCell, "table", "tr");
            each(table.group, kRow, "tr"), each(table.closed_by, kRow, "td", "th", "tr", "caption");
            each(table.barrier, kRow, "table", "tbody", "thead", "tfoot");
            each(table.group, kRows, "tbody", "thead", "tfoot");
            each(table.closed_by, kRows, "td", "th", "tr", "tbody", "thead", "tfoot", "caption");
            each(table.barrier, kRows, "table");
            each(table.group, kRubyText, "rt", "rp"), each(table.closed_by, kRubyText, "rt", "rp");
            each(table.barrier, kRubyText, "ruby", "p", "div");
            return table;
        }();
        return made;
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Blocks

    void end_piece(size_t end) {
        if (end > piece_) page_.pieces.push_back({static_cast<int64_t>(piece_), static_cast<int64_t>(end)});
        piece_ = end;
    }

    // Leaves bytes out of the page, in which the scan goes on behind them.
    void cut(size_t start, size_t end) {
        if (!silent()) {
            end_piece(start);
            piece_ = end;
        }
        at_ = end;
    }

    void flush(size_t end) {
        if (writer_.empty()) {
            page_.pieces.resize(static_cast<size_t>(first_piece_));
        } else {
            end_piece(end);
            page_.blocks.push_back(
                {static_cast<int64_t>(page_.text.size()), first_piece_, stack_.back().holder, writer_.counts});
            first_piece_ = static_cast<int64_t>(page_.pieces.size());
        }
        writer_.begin();
        piece_ = at_;
    }

    static constexpr uint8_t kBody = kind_of("body"), kBreak = kind_of("br"), kParagraph = kind_of("p"),
                             kLink = kind_of("a"), kRuby = kind_of("ruby"), kScript = kind_of("script"),
                             kStyle = kind_of("style"), kTitle = kind_of("title");

    const bool show_hidden_;
    Page& page_;
    TextWriter writer_;
    size_t piece_ = 0;
    int64_t first_piece_ = 0;
    size_t in_link_ = 0;  // open elements at the start of the link; 0 outside of links
    int32_t left_out_ = 0;
    std::vector<Open> stack_;
    std::array<int32_t, kNumber> open_{}, overflow_{};
    std::array<bool, kNumber> no_end_{};
};

}  // namespace lmworks::page
