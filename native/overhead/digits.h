// A whole number as text. printf would do, and bring floating point along: a third of a static program.

#pragma once

#include <stdint.h>

namespace overhead {

class Digits {
 public:
  // The text lives as long as this object, until the next number.
  const char* of(uint64_t number) {
    char* at = text_ + sizeof text_ - 1;
    do {
      *--at = static_cast<char>('0' + static_cast<int>(number % 10));
      number /= 10;
    } while (number != 0);
    return at;
  }

 private:
  char text_[21] = {};  // 2^64 - 1 has twenty digits
};

}  // namespace overhead
