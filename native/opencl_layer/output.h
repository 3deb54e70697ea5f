// The records: JSON, one object a line, each line one write at the end of a file. A process that is killed at any
// instant leaves whole lines and at most one that is cut.
#pragma once

#include "opencl_layer/settings.h"

namespace layer {

// A line being written.
class Line {
 public:
  void begin(const char* event) {
    text_.clear();
    add("{\"event\":\"%s\",\"pid\":%d", event, static_cast<int>(getpid()));
  }
  void add(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    if (!text_.reserve(text_.size() + 512)) return;
    char piece[512];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    for (int i = 0; i < length && i < static_cast<int>(sizeof piece) - 1; ++i) text_.push(piece[i]);
  }
  void number(const char* key, int64_t value) { add(",\"%s\":%" PRId64, key, value); }
  void truth(const char* key, bool value) { add(",\"%s\":%s", key, value ? "true" : "false"); }
  // Bytes that are not printable ASCII are written as \u00XX, so the line is valid whatever a driver says.
  void string(const char* key, const char* text) {
    add(",\"%s\":\"", key);
    for (; *text != '\0'; ++text) {
      const unsigned char c = static_cast<unsigned char>(*text);
      if (c == '"' || c == '\\') {
        text_.push('\\');
        text_.push(static_cast<char>(c));
      } else if (c < 0x20 || c > 0x7e) {
        add("\\u%04x", c);
      } else {
        text_.push(static_cast<char>(c));
      }
    }
    text_.push('"');
  }
  // Numbers less `base`.
  template <typename T>
  void array(const char* key, const T* values, size_t count, int64_t base = 0) {
    add(",\"%s\":[", key);
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) text_.push(',');
      digits(static_cast<int64_t>(values[i]) - base);
    }
    text_.push(']');
  }
  void end() {
    text_.push('}');
    text_.push('\n');
  }
  const Array<char>& text() const { return text_; }

 private:
  // Several thousand numbers are written after an inference, hence not by printf.
  void digits(int64_t value) {
    char piece[24];
    char* at = piece + sizeof piece;
    uint64_t left = value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
    do {
      *--at = static_cast<char>('0' + left % 10);
      left /= 10;
    } while (left != 0);
    if (value < 0) *--at = '-';
    while (at != piece + sizeof piece) text_.push(*at++);
  }

  Array<char> text_;
};

class Output {
 public:
  void open(const char* path) {
    if (path == nullptr || *path == '\0') return;
    const char* end = nullptr;
    int64_t inherited = 0;
    if (strncmp(path, "fd:", 3) == 0 && read_number(path + 3, &end, 0, 1 << 20, inherited) && *end == '\0') {
      fd_ = fcntl(static_cast<int>(inherited), F_DUPFD_CLOEXEC, 3);
    } else {
      fd_ = ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    }
    if (fd_ >= 0 && fstat(fd_, &file_) != 0) fd_ = -1;
    owner_ = getpid();
    // A process before this one may have been killed within a line.
    if (fd_ >= 0 && file_.st_size > 0 && ::write(fd_, "\n", 1) != 1) fd_ = -1;
  }
  // False where nothing is written any more: no file, a full disk, after the end, in a child of the process, or where
  // the program has closed the descriptor (another file may have its number now).
  bool write(const Line& line, bool last = false) {
    Lock lock(mutex_);
    struct stat now{};
    if (fd_ < 0 || getpid() != owner_ || line.text().failed()) return false;
    if (fstat(fd_, &now) != 0 || now.st_dev != file_.st_dev || now.st_ino != file_.st_ino) {
      fd_ = -1;
      return false;
    }
    const char* at = line.text().data();
    for (size_t left = line.text().size(); left > 0;) {
      const ssize_t done = ::write(fd_, at, left);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) {
        fd_ = -1;  // a line that was cut must stay the last one
        return false;
      }
      at += done;
      left -= static_cast<size_t>(done);
    }
    if (last) fd_ = -1;
    return true;
  }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  int fd_ = -1;
  pid_t owner_ = 0;
  struct stat file_ {};
};

}  // namespace layer
