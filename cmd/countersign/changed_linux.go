package main

import (
	"os"
	"syscall"
	"time"
)

// changed is when anything about a file last changed, if that is known. Unlike the
// time of its content, nobody can set it.
func changed(info os.FileInfo) (at time.Time, known bool) {
	status, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return at, false
	}
	return time.Unix(status.Ctim.Unix()), true
}
