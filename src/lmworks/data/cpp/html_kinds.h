// The elements of HTML that the scanner of pages knows, and what each is to it. blocks.py has the definition.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace lmworks::page {

enum Flags : uint8_t {
    kBlock = 1,     // its text is a block of its own
    kVoid = 2,      // has no content
    kLeftOut = 4,   // its content is no text of the page
    kRaw = 8,       // its content has no elements
    kHeading = 16,
    kAround = 32,   // holds what stands around the main text
    kWhole = 64,    // holds all of the main text, so that its names say little
    kStructure = 128,  // says what its text is
};

struct Kind {
    std::string_view name;
    uint8_t flags;
    uint8_t rank;  // an end tag closes no element of a higher rank (as in libxml2)
};

constexpr uint8_t kPlain = 100;

constexpr Kind kKinds[] = {
    {"", 0, kPlain},  // any other
    {"a", 0, kPlain}, {"address", kBlock, kPlain}, {"article", kBlock | kWhole, kPlain},
    {"aside", kBlock | kAround, kPlain}, {"blockquote", kBlock | kStructure, kPlain}, {"body", kBlock | kWhole, 200},
    {"caption", kBlock | kStructure, kPlain}, {"center", kBlock, kPlain}, {"dd", kBlock | kStructure, kPlain}, {"details", kBlock, kPlain},
    {"dir", kBlock, kPlain}, {"div", kBlock, 150}, {"dl", kBlock | kStructure, kPlain}, {"dt", kBlock | kStructure, kPlain},
    {"fieldset", kBlock, kPlain}, {"figcaption", kBlock, kPlain}, {"figure", kBlock, kPlain},
    {"footer", kBlock | kAround, kPlain}, {"form", kBlock | kAround, kPlain},
    {"h1", kBlock | kHeading | kStructure, kPlain}, {"h2", kBlock | kHeading | kStructure, kPlain}, {"h3", kBlock | kHeading | kStructure, kPlain},
    {"h4", kBlock | kHeading | kStructure, kPlain}, {"h5", kBlock | kHeading | kStructure, kPlain}, {"h6", kBlock | kHeading | kStructure, kPlain},
    {"header", kBlock | kAround, kPlain}, {"hgroup", kBlock, kPlain}, {"hr", kBlock | kVoid, kPlain},
    {"legend", kBlock, kPlain}, {"li", kBlock | kStructure, kPlain}, {"main", kBlock | kWhole, kPlain}, {"menu", kBlock, kPlain},
    {"nav", kBlock | kAround, kPlain}, {"ol", kBlock | kStructure, kPlain}, {"p", kBlock, 10}, {"pre", kBlock | kStructure, kPlain},
    {"section", kBlock, kPlain}, {"summary", kBlock, kPlain}, {"table", kBlock | kStructure, 190}, {"tbody", kBlock | kStructure, 180},
    {"td", kBlock | kStructure, 160}, {"tfoot", kBlock | kStructure, 180}, {"th", kBlock | kStructure, 160}, {"thead", kBlock | kStructure, 180}, {"tr", kBlock | kStructure, 170},
    {"ul", kBlock | kStructure, kPlain},
    {"audio", kLeftOut, kPlain}, {"button", kLeftOut, kPlain}, {"canvas", kLeftOut, kPlain},
    {"iframe", kLeftOut | kRaw, kPlain}, {"map", kLeftOut, kPlain}, {"noscript", kLeftOut, kPlain},
    {"object", kLeftOut, kPlain}, {"rp", kLeftOut, kPlain}, {"rt", kLeftOut, kPlain},
    {"script", kLeftOut | kRaw, kPlain}, {"select", kLeftOut, kPlain}, {"style", kLeftOut | kRaw, kPlain},
    {"svg", kLeftOut, kPlain}, {"template", kLeftOut, kPlain}, {"textarea", kLeftOut | kRaw, kPlain},
    {"title", kLeftOut | kRaw, kPlain}, {"video", kLeftOut, kPlain},
    {"area", kVoid, kPlain}, {"base", kVoid, kPlain}, {"br", kVoid, kPlain}, {"col", kVoid, kPlain},
    {"embed", kVoid, kPlain}, {"img", kVoid, kPlain}, {"input", kVoid, kPlain}, {"link", kVoid, kPlain},
    {"meta", kVoid, kPlain}, {"param", kVoid, kPlain}, {"source", kVoid, kPlain}, {"track", kVoid, kPlain},
    {"wbr", kVoid, kPlain},
    {"abbr", 0, kPlain}, {"b", 0, kPlain}, {"big", 0, kPlain}, {"cite", 0, kPlain}, {"code", 0, kPlain},
    {"data", 0, kPlain}, {"del", 0, kPlain}, {"em", 0, kPlain}, {"font", 0, kPlain}, {"i", 0, kPlain},
    {"ins", 0, kPlain}, {"kbd", 0, kPlain}, {"label", 0, kPlain}, {"mark", 0, kPlain}, {"math", 0, kPlain}, {"picture", 0, kPlain},
    {"q", 0, kPlain}, {"ruby", 0, kPlain}, {"s", 0, kPlain}, {"samp", 0, kPlain}, {"small", 0, kPlain},
    {"span", 0, kPlain}, {"strong", 0, kPlain}, {"sub", 0, kPlain}, {"sup", 0, kPlain}, {"time", 0, kPlain},
    {"tt", 0, kPlain}, {"u", 0, kPlain}, {"var", 0, kPlain},
};  // clang-format keeps the rows
constexpr int kNumber = sizeof(kKinds) / sizeof(kKinds[0]);
constexpr size_t kLongestName = 10;

constexpr uint8_t kind_of(std::string_view name) {
    for (int i = 1; i < kNumber; ++i) {
        if (kKinds[i].name == name) return static_cast<uint8_t>(i);
    }
    return 0;
}

constexpr size_t kSlots = 512;
constexpr size_t slot_of(std::string_view name) {
    uint32_t hash = 2166136261u;
    for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
    return (hash ^ (hash >> 15)) % kSlots;
}

constexpr std::array<uint8_t, kSlots> make_slots() {
    std::array<uint8_t, kSlots> slots{};
    for (int i = 1; i < kNumber; ++i) {
        size_t slot = slot_of(kKinds[i].name);
        while (slots[slot]) slot = (slot + 1) % kSlots;
        slots[slot] = static_cast<uint8_t>(i);
    }
    return slots;
}
constexpr auto kKindSlots = make_slots();

// The number of the element of this name in lower case; 0 for one that is not known.
inline uint8_t find_kind(std::string_view name) {
    for (size_t slot = slot_of(name); kKindSlots[slot]; slot = (slot + 1) % kSlots) {
        if (kKinds[kKindSlots[slot]].name == name) return kKindSlots[slot];
    }
    return 0;
}

}  // namespace lmworks::page
