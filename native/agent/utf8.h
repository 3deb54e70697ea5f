// UTF-8 as RFC 3629 has it: no surrogates, nothing overlong, nothing above U+10FFFF.
#pragma once

#include "text.h"

namespace agent {

// Length of the valid character at the start of the text, 0 if there is none.
inline size_t utf8_length(Text text) {
  if (text.size == 0) return 0;
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text.data[i]); };
  auto follows = [&](size_t i, unsigned low, unsigned high) {
    return i < text.size && byte(i) >= low && byte(i) <= high;
  };
  unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return follows(1, 0x80, 0xbf) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    unsigned low = lead == 0xe0 ? 0xa0 : 0x80;
    unsigned high = lead == 0xed ? 0x9f : 0xbf;
    return follows(1, low, high) && follows(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    unsigned low = lead == 0xf0 ? 0x90 : 0x80;
    unsigned high = lead == 0xf4 ? 0x8f : 0xbf;
    return follows(1, low, high) && follows(2, 0x80, 0xbf) && follows(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

inline bool utf8_valid(Text text) {
  while (text.size > 0) {
    size_t length = utf8_length(text);
    if (length == 0) return false;
    text = text.from(length);
  }
  return true;
}

// How many bytes at the end of the text may be the start of a character whose rest is still to come (0 to 3).
inline size_t utf8_cut(Text text) {
  for (size_t back = 1; back <= 3 && back <= text.size; ++back) {
    unsigned c = static_cast<unsigned char>(text.data[text.size - back]);
    if (c < 0x80) return 0;
    if (c < 0xc0) continue;
    size_t wanted = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    return wanted > back ? back : 0;
  }
  return 0;
}

// Appends a code point; false if it is a surrogate or beyond Unicode.
inline bool utf8_encode(uint32_t point, char out[4], size_t* length) {
  auto put = [&](size_t i, uint32_t value) { out[i] = static_cast<char>(static_cast<unsigned char>(value)); };
  if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
  if (point < 0x80) {
    put(0, point);
    *length = 1;
  } else if (point < 0x800) {
    put(0, 0xc0 | point >> 6), put(1, 0x80 | (point & 0x3f));
    *length = 2;
  } else if (point < 0x10000) {
    put(0, 0xe0 | point >> 12), put(1, 0x80 | (point >> 6 & 0x3f)), put(2, 0x80 | (point & 0x3f));
    *length = 3;
  } else {
    put(0, 0xf0 | point >> 18), put(1, 0x80 | (point >> 12 & 0x3f));
    put(2, 0x80 | (point >> 6 & 0x3f)), put(3, 0x80 | (point & 0x3f));
    *length = 4;
  }
  return true;
}

}  // namespace agent
