//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// machine is a host within this one (e2e/boot): its files are this one's, its
// first process is systemd, its network is empty, and what is written in it is
// forgotten when the test ends.
type machine struct {
	t      *testing.T
	name   string
	pid    int
	shared string // a folder that it sees as /run/shared
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	folder := t.TempDir()
	unique := fmt.Sprintf("%s-%d", name, os.Getpid()) // names its cgroup as well
	init := exec.Command("./boot", "up", folder, unique)
	init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	var said journal
	init.Stdout, init.Stderr = &said, &said
	if err := init.Start(); err != nil {
		t.Fatalf("a machine within this one takes root, and systemd: %v", err)
	}
	m := &machine{t: t, name: name, pid: init.Process.Pid, shared: folder}
	ended := make(chan struct{})
	go func() { // ends with the machine
		init.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := m.run("journalctl --no-pager --lines=60 --output=cat")
			t.Logf("%s, the last of its log:\n%s", name, log)
		}
		init.Process.Kill()
		<-ended
		forget := exec.Command("./boot", "forget", folder, unique)
		forget.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if out, err := forget.CombinedOutput(); err != nil {
			t.Errorf("%s leaves something: %v\n%s", name, err, out)
		}
	})
	eventually(t, name+" has booted", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s did not boot: %v\n%s", name, init.ProcessState, &said)
		default:
		}
		out, _ := m.run("systemctl is-active machine.target")
		return strings.TrimSpace(out) == "active"
	})
	return m
}

// run plays a script on the machine, in the checkout's folder. It returns what
// came out, errors included, and the exit code.
func (m *machine) run(script string, environment ...string) (output string, code int) {
	m.t.Helper()
	top, err := filepath.Abs("..")
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command("nsenter", fmt.Sprintf("--target=%d", m.pid), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root",
		"bash", "-euc", "cd "+top+"\n"+script)
	cmd.Env = append(os.Environ(), environment...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// must is run for a script that has to succeed.
func (m *machine) must(script string, environment ...string) string {
	m.t.Helper()
	output, code := m.run(script, environment...)
	if code != 0 {
		m.t.Fatalf("%s: exit code %d\n%s\n%s", m.name, code, script, output)
	}
	return output
}

// write makes a file on the machine; a path that does not begin with a slash is
// one in the checkout.
func (m *machine) write(path, text string) {
	m.t.Helper()
	place(m.t, m.shared, "file", text)
	m.must("install -m 644 /run/shared/file " + path)
}

// wire connects two machines, each by an interface eth0.
func wire(t *testing.T, a, b *machine) {
	t.Helper()
	cmd := exec.Command("ip", "link", "add", "name", "eth0", "netns", fmt.Sprint(a.pid), "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(b.pid))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// socket has systemd listen on an address of the machine, and pass on to
// another; either may be a socket in /run/shared.
func (m *machine) socket(name, from, to string) {
	m.t.Helper()
	m.write("/etc/systemd/system/"+name+".socket", "[Socket]\nListenStream="+from+"\n")
	m.write("/etc/systemd/system/"+name+".service", "[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd --connections-max=4096 "+to+"\n")
	m.must("systemctl daemon-reload; systemctl start " + name + ".socket")
}

// lead makes what listens at a URL here reachable at an address there.
func (m *machine) lead(name, address, to string) {
	m.t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		m.t.Fatal(err)
	}
	relay(m.t, "unix", filepath.Join(m.shared, name), "tcp", target.Host)
	m.socket(name, address, "/run/shared/"+name)
}

// expose makes what listens at an address there reachable here, at a URL.
func (m *machine) expose(name, address string) string {
	m.t.Helper()
	m.socket(name, "/run/shared/"+name, address)
	here := freeAddress(m.t)
	relay(m.t, "tcp", here, "unix", filepath.Join(m.shared, name))
	return "http://" + here
}

// relay passes on what comes, both ways, until the test ends.
func relay(t *testing.T, network, address, toNetwork, to string) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() { // ends when the listener is closed
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // ends when both sides have
				defer from.Close()
				to, err := net.Dial(toNetwork, to)
				if err != nil {
					return
				}
				defer to.Close()
				back := make(chan struct{})
				go func() { // ends with to
					io.Copy(from, to)
					from.(interface{ CloseWrite() error }).CloseWrite()
					close(back)
				}()
				io.Copy(to, from)
				to.(interface{ CloseWrite() error }).CloseWrite()
				<-back
			}()
		}
	}()
}
