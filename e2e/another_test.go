//go:build e2e

package e2e_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// anotherGlance runs one more Glance, as the stack runs this one and over the same
// database and stores, until the test ends. Its section DEFAULT has further lines:
// what no Glance of the stack's can have without the other scenarios seeing it.
func anotherGlance(t *testing.T, glance server, lines ...string) server {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	folder := t.TempDir()
	theirs := filepath.Join(stackFolder(t), "etc", glance.name)
	if err := os.CopyFS(folder, os.DirFS(theirs)); err != nil {
		t.Fatal(err)
	}
	// Where an option is there twice Glance takes the last.
	lines = append([]string{"", "[DEFAULT]", "bind_port = " + port, "worker_self_reference_url = http://" + address,
		"log_file = " + filepath.Join(folder, "glance.log")}, lines...)
	file, err := os.OpenFile(filepath.Join(folder, "glance-api.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(strings.Join(lines, "\n") + "\n")
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	command := []string{"glance-api", "--config-dir", folder}
	if glance.name == "uwsgi" {
		ini := filepath.Join(folder, "uwsgi.ini")
		text, err := os.ReadFile(filepath.Join(stackFolder(t), "etc", "glance-uwsgi.ini"))
		if err == nil {
			text := strings.NewReplacer(strings.TrimPrefix(glance.url(), "http://"), address, theirs, folder,
				filepath.Join(stackFolder(t), "log"), folder).Replace(string(text)) + "processes = 2\n"
			err = os.WriteFile(ini, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		command = []string{"uwsgi_python3", "--ini", ini}
	}

	var log journal
	run := exec.Command("stack/stack", append([]string{"exec"}, command...)...)
	run.Stdout, run.Stderr = &log, &log
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	run.WaitDelay = time.Second
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the process; the cleanup waits for it
		run.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		syscall.Kill(-run.Process.Pid, syscall.SIGKILL) // it has nothing to put in order
		<-done
	})
	glance.address = address
	eventually(t, "the other Glance answers", func() bool {
		select {
		case <-done:
			t.Fatalf("the other Glance ended: %v\n%s", run.ProcessState, &log)
		default:
		}
		response, err := http.Get(glance.url())
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode < 500
	})
	return glance
}

// telling are the settings of a Glance that shows where images are stored, and
// takes data by its location. Plain users may give locations on the web only.
var telling = []string{"show_image_direct_url = true", "show_multiple_locations = true", "enabled_backends = fast:file,slow:file,web:http"}
