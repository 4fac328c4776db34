// exp, sigmoid and tanh in a form that compilers turn into vector code: no branches, no calls, NaN stays NaN.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace rmc {

// x = k ln 2 + r with |r| <= ln(2) / 2: gives exp(r) - 1 by its Taylor series (its rest is below 2e-8 of it), and 2^k.
// x has to lie within [-87, 88] or be NaN.
inline float reduce(float x, float& power) {
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the whole part of x / ln 2 is in the last bits
  std::uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;
  std::memcpy(&power, &bits, sizeof power);
  const float k = shifted - 12582912.0f;
  const float r = (x - k * 0.693145752f) - k * 1.42860677e-6f;  // ln 2 in two parts, the first of few bits
  float sum = 1.0f / 5040;
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  return sum * r * r + r;
}

inline float between(float x, float low, float high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

inline float exponential(float x) {  // of x <= 0; 0 where it would not be a normal number
  float power;
  const float rest = reduce(between(x, -87.0f, 0.0f), power);
  return x < -87.0f ? 0.0f : power + power * rest;
}

inline float sigmoid(float x) {
  float power;
  const float rest = reduce(between(-x, -87.0f, 88.0f), power);
  return 1.0f / (1.0f + (power + power * rest));
}

inline float tangent(float x) {  // tanh(x) = e / (e + 2), e = exp(2x) - 1
  float power;
  const float rest = reduce(between(2.0f * x, -20.0f, 20.0f), power);
  const float e = (power - 1.0f) + power * rest;
  return e / (e + 2.0f);
}

inline double exponential(double x) { return std::exp(x); }
inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline double tangent(double x) { return std::tanh(x); }

}  // namespace rmc
