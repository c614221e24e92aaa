//go:build !linux

package downstream

import (
	"errors"
	"syscall"
)

// Countersign is made for Linux. Elsewhere it builds, for those who write it.

const trying = false

var errNothingYet = errors.New("nothing yet")

func tryRead(int, []byte) (int, error) { return 0, errNothingYet }

func left(syscall.RawConn) bool { return false }
