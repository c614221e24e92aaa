package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// peer is a proxy that runs in front of the sink, in processes of its own.
type peer struct {
	name    string
	address string
	tls     bool // clients reach it through TLS
	cmd     *exec.Cmd
	pids    []int
	done    chan struct{}
	log     string // file
}

// cpu is what all its threads have run.
func (p *peer) cpu() time.Duration { return cpuOf(p.pids) }

// stop ends it.
func (p *peer) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// start runs a command that is to listen on the address.
func start(name, folder, address string, cmd *exec.Cmd) (*peer, error) {
	p := &peer{name: name, address: address, cmd: cmd, done: make(chan struct{}), log: filepath.Join(folder, name+".log")}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() { // ends with the process
		cmd.Wait()
		close(p.done)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("%s ended at once; its log is %s: %s", name, p.log, p.lastWords())
		case <-ctx.Done():
			p.stop()
			return nil, fmt.Errorf("%s does not listen on %s; its log is %s: %s", name, address, p.log, p.lastWords())
		case <-time.After(20 * time.Millisecond):
		}
	}
	// It may listen before all its processes are there, whose time would not count.
	for still := 0; still < 5; time.Sleep(50 * time.Millisecond) {
		now := family(cmd.Process.Pid)
		if still++; !slices.Equal(now, p.pids) {
			p.pids, still = now, 0
		}
	}
	return p, nil
}

func (p *peer) lastWords() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-500):])
}

// freeAddress is one that nobody listens on.
func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // loopback without ports
	}
	defer listener.Close()
	return listener.Addr().String()
}

// programs are the peers' paths, and where their libraries are.
type programs map[string]string

// findPrograms asks the script beside us.
func findPrograms(script string) (programs, error) {
	cmd := exec.Command(script)
	var words bytes.Buffer
	cmd.Stderr = &words
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", script, err, words.Bytes())
	}
	found := programs{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if name, path, ok := strings.Cut(lines.Text(), "="); ok {
			found[name] = path
		}
	}
	return found, nil
}

func (p programs) command(name string, arguments ...string) *exec.Cmd {
	if libraries := p["LIBRARIES"]; libraries != "" { // env becomes the program
		return exec.Command("env", append([]string{"LD_LIBRARY_PATH=" + libraries, p[name]}, arguments...)...)
	}
	return exec.Command(p[name], arguments...)
}

// version is what a peer calls itself.
func (p programs) version(name, flag string) string {
	text, _ := p.command(name, flag).CombinedOutput()
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// nginxConfig is nginx as a reverse proxy that streams uploads; a client of
// Glance wants no less. Buffers are its own, or 256 KiB. It writes an access log,
// as it does by default and as Countersign does.
const nginxConfig = `
daemon off;
worker_processes auto;
worker_rlimit_nofile 16384;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
%[5]s
events { worker_connections 8192; }
http {
	access_log %[1]s/access.log;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	client_max_body_size 0;
	keepalive_requests 1000000000;
	keepalive_timeout 600s;
	upstream glance { server %[3]s; keepalive 1024; keepalive_requests 1000000000; }
	server {
		listen %[2]s;
		location / {
			proxy_pass http://glance;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_request_buffering off;
			%[4]s
		}
	}
}`

const nginxTuning = `client_body_buffer_size 256k; proxy_buffer_size 256k; proxy_buffers 8 256k; proxy_busy_buffers_size 512k; proxy_max_temp_file_size 0;`

func (p programs) nginx(name, folder, upstream, tuning string) (*peer, error) {
	home := filepath.Join(folder, name)
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	address := freeAddress()
	file := filepath.Join(home, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, home, address, upstream, tuning, user)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return start(name, folder, address, p.command("nginx", "-p", home, "-e", filepath.Join(home, "error.log"), "-c", file))
}

const haproxyConfig = `
global
	maxconn 8192
defaults
	mode http
	timeout connect 5s
	timeout client 600s
	timeout server 600s
frontend images
	bind %s
	default_backend glance
backend glance
	server glance %s
`

func (p programs) haproxy(folder, upstream string) (*peer, error) {
	address := freeAddress()
	file := filepath.Join(folder, "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, haproxyConfig, address, upstream), 0o600); err != nil {
		return nil, err
	}
	return start("haproxy", folder, address, p.command("haproxy", "-db", "-f", file))
}

// reverseProxy runs Go's own in a process of its own: this program again.
func reverseProxy(folder, upstream string) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address := freeAddress()
	return start("ReverseProxy", folder, address, exec.Command(self, "-reverse-proxy", address+","+upstream))
}

// serveReverseProxy is what that process does: everything by default.
func serveReverseProxy(addresses string) error {
	listen, upstream, _ := strings.Cut(addresses, ",")
	return http.ListenAndServe(listen, httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: upstream}))
}

// countersign runs the released binary as an operator would: with a policy, a
// service credential, the certificate cache, metrics and its log.
func (b *bench) countersign(name, policy string, environment ...string) (*peer, error) {
	file := filepath.Join(b.folder, name+".yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	address := freeAddress()
	cmd := exec.Command(b.binary, "serve")
	cmd.Env = append([]string{
		"COUNTERSIGN_LISTEN=" + address,
		"COUNTERSIGN_ADMIN_LISTEN=" + freeAddress(),
		"COUNTERSIGN_GLANCE_URL=http://" + b.sink.address(),
		"COUNTERSIGN_POLICY_FILE=" + file,
		"OS_AUTH_URL=" + b.standIns.url() + "/v3",
		"OS_USERNAME=countersign", "OS_PASSWORD=bench", "OS_USER_DOMAIN_NAME=Default",
		"OS_PROJECT_NAME=service", "OS_PROJECT_DOMAIN_NAME=Default", "OS_REGION_NAME=RegionOne",
	}, append(b.receipts, environment...)...)
	return start(name, b.folder, address, cmd)
}
