// The gates of one slot, eq. 7: M' = f o M + i o tanh(M~), one of each for every unit or for the slot.
#pragma once
#include "call.h"
#include "function.h"

namespace rmc {

// before [G] becomes the gates [input forget]; candidate is M~ [M].
template <typename R>
void gate(Size M, Size G, R* before, const R* drive, const R* candidate, const R* memory, R* next) {
  if (G == 2) {
    const R input = before[0] = sigmoid(before[0] + drive[0]);
    const R forget = before[1] = sigmoid(before[1] + drive[1]);
#pragma omp simd
    for (Size i = 0; i < M; ++i) next[i] = input * tangent(candidate[i]) + forget * memory[i];
    return;
  }
  R* after = before + M;
#pragma omp simd
  for (Size i = 0; i < M; ++i) {
    const R input = sigmoid(before[i] + drive[i]), forget = sigmoid(after[i] + drive[M + i]);
    before[i] = input;
    after[i] = forget;
    next[i] = input * tangent(candidate[i]) + forget * memory[i];
  }
}

// From d, the gradient of M', to those of M~ (in place of M~), of M (in place of d), and of the sigmoids' arguments,
// which are added to `d_drive` as well.
template <typename R>
void gate_back(Size M, Size G, const R* gates, const R* memory, R* candidate, R* d, R* d_gates, R* d_drive) {
  if (G == 2) {
    const R input = gates[0], forget = gates[1];
    R d_input = 0, d_forget = 0;
#pragma omp simd reduction(+ : d_input, d_forget)
    for (Size i = 0; i < M; ++i) {
      const R risen = tangent(candidate[i]);
      d_input += d[i] * risen;
      d_forget += d[i] * memory[i];
      candidate[i] = d[i] * input * (1 - risen * risen);
      d[i] *= forget;
    }
    d_gates[0] = d_input * input * (1 - input);
    d_gates[1] = d_forget * forget * (1 - forget);
    d_drive[0] += d_gates[0];
    d_drive[1] += d_gates[1];
    return;
  }
#pragma omp simd
  for (Size i = 0; i < M; ++i) {
    const R risen = tangent(candidate[i]), input = gates[i], forget = gates[M + i];
    const R d_input = d[i] * risen * input * (1 - input), d_forget = d[i] * memory[i] * forget * (1 - forget);
    d_gates[i] = d_input;
    d_gates[M + i] = d_forget;
    d_drive[i] += d_input;
    d_drive[M + i] += d_forget;
    candidate[i] = d[i] * input * (1 - risen * risen);
    d[i] *= forget;
  }
}

}  // namespace rmc
