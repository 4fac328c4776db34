// How the batch is cut into tiles, and how working memory is divided; samples never interact, so tiles do not either.
#pragma once
#include <algorithm>
#include <cstring>

#include "call.h"
#include "norm.h"

namespace rmc {

constexpr Size ROWS = 128;  // of a tile, about: enough for BLAS, few enough for a step to stay in the cache

template <typename R>
Size tiles(const Call<R>& call) {
  const Size samples = std::max<Size>(1, ROWS / call.N);
  const Size enough = std::max((call.B + samples - 1) / samples, call.threads);
  return std::min(call.B, (enough + call.threads - 1) / call.threads * call.threads);
}

struct Tile {
  Size begin, samples;  // of the batch

  template <typename R>
  Tile(const Call<R>& call, Size index, Size count)
      : begin(call.B * index / count), samples(call.B * (index + 1) / count - begin) {}
};

// Deals out pieces of working memory, each at a multiple of 64 bytes; without memory it only counts.
template <typename R>
struct Arena {
  R* memory;
  Size used = 0;

  R* take(Size count) {
    R* piece = memory ? memory + used : nullptr;
    used += (count + 15) / 16 * 16;
    return piece;
  }
};

// What forward keeps of one step of a tile for backward: not what elementwise functions give again, nor the hidden layers
// of g_psi, a product of matrices each, without which it is less than half of what plain PyTorch keeps.
template <typename R>
struct Kept {
  R* qkv;           // before its norm, [samples N P]
  R* attention;     // [samples heads N S]
  R* sum;           // before the last norm, [samples N M]
  R* gates;         // after their sigmoids, [samples N G]
  Stats<R>* stats;  // of the three norms, [3 samples N], and of x', [samples n]
  R* end;

  Kept(const Call<R>& call, R* at, Size samples) {
    const Size rows = samples * call.N;
    qkv = at;
    attention = qkv + rows * call.P();
    sum = attention + rows * call.heads * call.S();
    gates = sum + rows * call.M();
    R* numbers = gates + rows * call.G;
    stats = reinterpret_cast<Stats<R>*>(numbers);
    end = numbers + 2 * samples * (3 * call.N + call.n);
  }
};

// Numbers that `samples` samples keep of one step.
template <typename R>
Size kept_size(const Call<R>& call, Size samples) {
  const Size row = call.P() + call.heads * call.S() + call.M() + call.G;
  return samples * (call.N * row + 2 * (3 * call.N + call.n));
}

// Numbers that the gradients of weights, biases and norms take.
template <typename R>
Size weights_size(const Call<R>& call) {
  const Size M = call.M(), P = call.P();
  return P * M + call.G * M + call.layers * M * M + 3 * P + (4 + call.layers) * M;
}

// What one thread works in, for the largest tile.
template <typename R>
struct Scratch {
  R *memory, *risen, *heads, *reading, *candidate;  // rows of M, M, P, M, M
  R *arrived, *hidden;                              // [samples n P], [layers-1 rows M]
  R* step;                                          // what is kept, of one step, where nothing is
  R *d_memory, *d_risen, *d_heads, *d_gates;        // backward: rows of M, M, P, G
  R *d_sum, *d_hidden, *d_attention;                // rows of M, M; [N S]
  R* d_weights;                                     // gradients of weights, biases and norms, of one tile
  R* d_vectors;                                     // those of biases and norms, of one step, and [P] unread
  Size used;

  Scratch(const Call<R>& call, R* at, bool backward) {
    const Size cuts = std::max<Size>(1, tiles(call));
    const Size samples = (call.B + cuts - 1) / cuts, rows = samples * call.N;
    const Size M = call.M(), P = call.P();
    Arena<R> arena{at};
    memory = arena.take(rows * M);
    risen = arena.take(rows * M);
    heads = arena.take(rows * P);
    reading = arena.take(rows * M);
    candidate = arena.take(rows * M);
    arrived = arena.take(samples * call.n * P);
    hidden = arena.take((call.layers - 1) * rows * M);
    step = arena.take(backward || call.keeps ? 0 : kept_size(call, samples));
    const Size behind = backward ? rows : 0;
    d_memory = arena.take(behind * M);
    d_risen = arena.take(behind * M);
    d_heads = arena.take(behind * P);
    d_gates = arena.take(behind * call.G);
    d_sum = arena.take(behind * M);
    d_hidden = arena.take(behind * M);
    d_attention = arena.take(backward ? call.N * call.S() : 0);
    d_weights = arena.take(backward ? weights_size(call) : 0);
    d_vectors = arena.take(backward ? 4 * P + (4 + call.layers) * M : 0);
    used = arena.used;
  }
};

// The memory [samples N M] from which a tile's step starts: the one before it, or the fresh one where `first` says so.
template <typename R>
const R* before(const Call<R>& call, const Tile& tile, Size t, R* room) {
  const Size size = call.N * call.M();
  const R* memory = t == 0 ? call.memory : call.memories + (t - 1) * call.B * size;
  memory += tile.begin * size;
  const std::uint8_t* first = call.first ? call.first + t * call.B + tile.begin : nullptr;
  if (!first || std::none_of(first, first + tile.samples, [](std::uint8_t mark) { return mark != 0; })) return memory;
  for (Size b = 0; b < tile.samples; ++b) {
    const R* from = first[b] ? call.fresh : memory + b * size;
    std::copy(from, from + size, room + b * size);
  }
  return room;
}

// Rows of a tile's memory that may differ: those of one sample where a sequence begins with the same in all.
template <typename R>
Size distinct(const Call<R>& call, const Tile& tile, Size t, const R* memory) {
  const Size size = call.N * call.M();
  for (Size b = 1; b < tile.samples; ++b)
    if (t > 0 || std::memcmp(memory, memory + b * size, size * sizeof(R)) != 0) return tile.samples * call.N;
  return call.N;
}

// The first sample's numbers for all others as well.
template <typename R>
void spread(R* x, Size size, Size samples) {
  for (Size b = 1; b < samples; ++b) std::copy(x, x + size, x + b * size);
}

// The sum over samples, in place of the first one's numbers.
template <typename R>
void gather(R* x, Size size, Size samples) {
  for (Size b = 1; b < samples; ++b) {
#pragma omp simd
    for (Size i = 0; i < size; ++i) x[i] += x[b * size + i];
  }
}

}  // namespace rmc
