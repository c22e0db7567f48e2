// GloVe by AdaGrad (Pennington et al. 2014, section 4.2; Duchi et al. 2011), one entry of the table of neighbours after
// the other. The functions in glove.py are the definition; the numbers here are the same, bit by bit.
#pragma once

#include <cmath>
#include <cstdint>

#include "rows.h"

namespace lmworks {

// Both sides of the factorisation: [0] words, [1] the words beside them. As `Factors` in library.py.
struct Factors {
    float* rows[2];         // (words, parts * 16)
    float* row_squares[2];  // sums of squared gradients, of the same shape
    float* biases[2];       // (words,)
    float* bias_squares[2];
    int64_t parts;
    float rate;
};

// One step of AdaGrad on one number.
INLINE void descend(float& x, float& squares, float gradient, float rate) {
    squares += gradient * gradient;
    x -= rate * gradient / std::sqrt(squares);
}

// The same for a row whose gradient is `factor * other`; what is to be taken from it is written to `step`.
INLINE void find_step(float* step, float* squares, float factor, const float* other, int64_t size, float rate) {
    for (int64_t i = 0; i < size; ++i) {
        const float gradient = factor * other[i];
        squares[i] += gradient * gradient;
        step[i] = rate * gradient / std::sqrt(squares[i]);
    }
}

// Learns from entries: the places of the two words, the logarithm of their count, and its weight. The loss is half the
// weighted square, whose sum is returned.
INLINE double learn_entries(const Factors& f, const int32_t* words, const int32_t* contexts, const float* logarithms,
                            const float* weights, int64_t number, float* steps) {
    const int64_t size = f.parts * kLanes;
    double loss = 0;
    for (int64_t i = 0; i < number; ++i) {
        const int64_t place[2] = {words[i], contexts[i]};
        if (i + 4 < number) {  // the rows of an entry to come are on their way while this one is computed
            const int64_t next[2] = {words[i + 4], contexts[i + 4]};
            for (int side = 0; side < 2; ++side) {
                prefetch(f.rows[side] + next[side] * size, f.parts);
                prefetch(f.row_squares[side] + next[side] * size, f.parts);
            }
        }
        float* row[2];
        float* squares[2];
        for (int side = 0; side < 2; ++side) {
            row[side] = f.rows[side] + place[side] * size;
            squares[side] = f.row_squares[side] + place[side] * size;
        }
        const float error =
            dot(row[0], row[1], f.parts) + f.biases[0][place[0]] + f.biases[1][place[1]] - logarithms[i];
        const float factor = weights[i] * error;
        loss += 0.5 * static_cast<double>(factor) * error;
        for (int side = 0; side < 2; ++side) {
            find_step(steps + side * size, squares[side], factor, row[1 - side], size, f.rate);
        }
        for (int side = 0; side < 2; ++side) {
            for (int64_t j = 0; j < size; ++j) row[side][j] -= steps[side * size + j];
            descend(f.biases[side][place[side]], f.bias_squares[side][place[side]], factor, f.rate);
        }
    }
    return loss;
}

}  // namespace lmworks
