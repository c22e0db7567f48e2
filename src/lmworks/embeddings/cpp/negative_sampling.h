// Skip-gram and CBOW with negative sampling (Mikolov et al. 2013a, b), the input words with or without their character
// n-grams (Bojanowski et al. 2017). reference.py is the definition; the numbers here are the same, bit by bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "random.h"
#include "rows.h"

namespace lmworks {

constexpr double kLeastRate = 1e-4;  // of the first learning rate

// What is learnt and what it is learnt by; as `Model` in library.py.
struct Model {
    float* input;              // (words and n-grams, parts * 16)
    float* output;             // (words, parts * 16)
    const int64_t* row_ends;   // (words,) where the rows of a word end in `rows`; null: a word has its own row alone
    const int32_t* rows;       // rows of `input`
    const uint32_t* keep;      // (words,) a word of the text is kept when a draw is at most this
    const uint32_t* limits;    // (words,) noise, as in Alias
    const int32_t* others;     // (words,)
    const float* sigmoid;      // at -limit, -limit + 1 / density, ..., limit
    int64_t parts;
    int64_t words;             // of all epochs, for the learning rate
    double rate;
    float sigmoid_limit;
    float sigmoid_density;
    int32_t table_size;
    int32_t window;
    int32_t negative;
    int32_t skip_gram;         // else CBOW
};

class Learner {
public:
    explicit Learner(const Model& model)
        : m_(model), noise_{model.limits, model.others, static_cast<uint32_t>(model.table_size)} {
        hidden_.resize(m_.parts * kLanes);
        gradient_.resize(m_.parts * kLanes);
    }

    // Learns from a part of the text: ids of words, -1 at the end of each sentence. `done` words of the whole were
    // before it. Returns how many words were kept.
    INLINE int64_t learn(const int32_t* ids, int64_t size, uint64_t seed, int64_t done) {
        Random random(seed);
        int64_t kept = 0;
        for (const int32_t *at = ids, *end = ids + size; at < end;) {
            const int32_t* stop = std::find(at, end, -1);
            rate_ = static_cast<float>(m_.rate * std::max(kLeastRate, 1.0 - static_cast<double>(done) / m_.words));
            sentence_.clear();
            for (const int32_t* word = at; word < stop; ++word) {
                if (static_cast<uint32_t>(random.next() >> 32) <= m_.keep[*word]) sentence_.push_back(*word);
            }
            for (size_t place = 0; place < sentence_.size(); ++place) centre(place, random);
            kept += static_cast<int64_t>(sentence_.size());
            done += stop - at;
            at = stop + 1;
        }
        return kept;
    }

private:
    INLINE void centre(size_t place, Random& random) {
        const size_t reach = 1 + Random::below(random.next(), static_cast<uint32_t>(m_.window));
        const size_t from = place - std::min(place, reach), to = std::min(place + reach + 1, sentence_.size());
        inputs_.clear();
        targets_.clear();
        if (m_.skip_gram) {
            add_inputs(sentence_[place]);
            for (size_t other = from; other < to; ++other) {
                if (other != place) add_targets(sentence_[other], random);
            }
        } else {
            for (size_t other = from; other < to; ++other) {
                if (other != place) add_inputs(sentence_[other]);
            }
            if (!inputs_.empty()) add_targets(sentence_[place], random);
        }
        if (!targets_.empty()) step();
    }

    INLINE void add_inputs(int32_t word) {
        if (!m_.row_ends) {
            inputs_.push_back(m_.input + word * m_.parts * kLanes);
            return;
        }
        for (int64_t i = word ? m_.row_ends[word - 1] : 0; i < m_.row_ends[word]; ++i) {
            inputs_.push_back(m_.input + m_.rows[i] * m_.parts * kLanes);
        }
    }

    // A word and the noise beside it, without the word itself.
    INLINE void add_targets(int32_t word, Random& random) {
        targets_.push_back({row(word), 1.0f, 0.0f});
        for (int32_t i = 0; i < m_.negative; ++i) {
            const int32_t other = noise_.draw(random.next());
            if (other != word) targets_.push_back({row(other), 0.0f, 0.0f});
        }
    }

    INLINE float* row(int32_t word) const {
        float* found = m_.output + word * m_.parts * kLanes;
        prefetch(found, m_.parts);
        return found;
    }

    // One step for all targets of a hidden vector: the gradient is that of before the step.
    INLINE void step() {
        const int64_t parts = m_.parts;
        const float* hidden = inputs_[0];
        if (inputs_.size() > 1) hidden = mean();
        for (Target& target : targets_) {
            target.step = (target.label - sigmoid(dot(hidden, target.row, parts))) * rate_;
        }
        std::fill(gradient_.begin(), gradient_.end(), 0.0f);
        for (const Target& target : targets_) add(gradient_.data(), target.step, target.row, parts);
        for (const Target& target : targets_) add(target.row, target.step, hidden, parts);
        for (float* input : inputs_) add(input, gradient_.data(), parts);
    }

    INLINE const float* mean() {
        std::copy_n(inputs_[0], hidden_.size(), hidden_.data());
        for (size_t i = 1; i < inputs_.size(); ++i) add(hidden_.data(), inputs_[i], m_.parts);
        const float share = 1.0f / static_cast<float>(inputs_.size());
        for (float& x : hidden_) x *= share;
        return hidden_.data();
    }

    // NaN is -limit: `std::max` gives its first argument where it cannot compare, and the table is never left.
    INLINE float sigmoid(float x) const {
        const float limit = m_.sigmoid_limit;
        const float place = (std::min(std::max(-limit, x), limit) + limit) * m_.sigmoid_density;
        const int32_t cell = std::min(static_cast<int32_t>(place), static_cast<int32_t>(2 * limit * m_.sigmoid_density) - 1);
        const float low = m_.sigmoid[cell];
        return low + (place - static_cast<float>(cell)) * (m_.sigmoid[cell + 1] - low);
    }

    struct Target {
        float* row;
        float label;
        float step;
    };

    const Model& m_;
    const Alias noise_;
    float rate_ = 0;
    std::vector<int32_t> sentence_;
    std::vector<float*> inputs_;
    std::vector<Target> targets_;
    std::vector<float> hidden_, gradient_;
};

}  // namespace lmworks
