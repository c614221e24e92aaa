package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is what a reader has to know about where figures come from.
type Machine struct {
	Date     time.Time
	CPU      string
	Flags    []string // those that decide how fast a hash is
	Cores    int
	Kernel   string
	Go       string
	Load     [2]string // load average before and after
	Versions map[string]string
}

// thisMachine describes where we are. What cannot be read stays empty.
func thisMachine() Machine {
	m := Machine{Date: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Go: runtime.Version(), Versions: map[string]string{}}
	m.Load[0] = loadAverage()
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(kernel)), "-")
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch strings.TrimSpace(name) {
		case "model name":
			m.CPU = strings.TrimSpace(value)
		case "flags", "Features":
			m.Flags = nil
			for _, flag := range strings.Fields(value) {
				switch flag {
				case "sha_ni", "avx2", "avx512f", "vaes", "sha2", "sha512":
					m.Flags = append(m.Flags, flag)
				}
			}
		}
	}
	return m
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

// String is the machine line.
func (m Machine) String() string {
	flags := strings.Join(m.Flags, " ")
	if flags == "" {
		flags = "no instructions for hashes"
	}
	return fmt.Sprintf("%s: %d cores of %s (%s), Linux %s, %s, load %s before and %s after",
		m.Date.Format("2006-01-02 15:04 MST"), m.Cores, m.CPU, flags, m.Kernel, m.Go, m.Load[0], m.Load[1])
}

// cpuOf is the time that the threads of some processes have run, user and
// system, in nanoseconds as the scheduler counts it (/proc/PID/task/*/schedstat).
func cpuOf(pids []int) time.Duration {
	var total time.Duration
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, task := range tasks {
			text, _ := os.ReadFile(task)
			ran, _, _ := strings.Cut(string(text), " ")
			n, _ := strconv.ParseInt(ran, 10, 64)
			total += time.Duration(n)
		}
	}
	return total
}

// ownCPU is the time that the calling thread has run.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(1, &usage) // RUSAGE_THREAD
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// family is a process and all that it has started.
func family(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, _ := os.ReadFile(file)
		at := strings.LastIndexByte(string(text), ')')
		if at < 0 {
			continue
		}
		fields := strings.Fields(string(text[at+1:]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], child)
	}
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids
}

// status adds up a field of /proc/PID/status, in KiB: RssAnon, VmHWM.
func status(pids []int, field string) int64 {
	var total int64
	for _, pid := range pids {
		file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if value, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
				n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
				total += n
			}
		}
		file.Close()
	}
	return total
}

// bytesRead is what the processes have taken in by read(2), as the kernel
// counts it.
func bytesRead(pids []int) int64 {
	var total int64
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "rchar: "); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
				total += n
			}
		}
	}
	return total
}
