package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
)

// projectID is an owner that the policies of these tests list by name.
const projectID = "3f0c2b6d9a8e4c1f8b7a6d5e4c3b2a19"

// policyFor is a policy with one rule, which all projects are under.
func policyFor(mode string) string {
	return "rules: [{projects: all, mode: " + mode + ", signers: any}]\n"
}

// namedPolicy enforces for one project, which it lists by its name.
const namedPolicy = `rules:
  - {name: named, projects: [{name: prod, domain: Default}], mode: enforce, signers: any}
  - {name: rest, projects: all, mode: audit}
`

// identityService is a Keystone that knows one project, or none, or does not
// answer.
type identityService struct{ id atomic.Value } // "": there is no such project; "?": it does not answer

func newIdentityService(id string) *identityService {
	s := new(identityService)
	s.id.Store(id)
	return s
}

func (s *identityService) ProjectID(_ context.Context, name, domain string) (string, error) {
	switch id := s.id.Load().(string); {
	case id == "?":
		return "", errors.New("keystone: away")
	case id == "" || name != "prod" || domain != "Default":
		return "", keystone.ErrNoProject
	default:
		return id, nil
	}
}

// watched opens the policy at path, looked at every second, with project names
// looked up anew every hour. It is for a bubble: the goroutine ends with it.
func watched(t *testing.T, path string, names projectNames, log *sharedLog) *policyFile {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	cfg := config.Config{PolicyFile: path, PolicyInterval: time.Second, ProjectRefresh: time.Hour}
	f, err := openPolicy(ctx, cfg, names, nil, zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wait lets the time pass; nobody sleeps in a bubble.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect demands that the rule for projectID has the mode; "" stands for an
// undecided policy.
func expect(t *testing.T, when string, f *policyFile, want policy.Mode) {
	t.Helper()
	rule, err := f.For(policy.Subject{Owner: projectID})
	var refused *policy.Refusal
	switch {
	case want == "":
		if !errors.As(err, &refused) || refused.Code != policy.CodePolicyUndecided {
			t.Errorf("%s: For = %v, %v, want %s", when, rule, err, policy.CodePolicyUndecided)
		}
	case err != nil:
		t.Errorf("%s: For = %v, want mode %s", when, err, want)
	case rule.Mode != want:
		t.Errorf("%s: mode = %s, want %s", when, rule.Mode, want)
	}
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A new policy counts when it is good; until then the last good one does.
func TestPolicyReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		save(t, path, policyFor("audit"))
		log := new(sharedLog)
		f := watched(t, path, newIdentityService(""), log)
		expect(t, "at first", f, policy.Audit)

		for _, step := range []struct {
			name    string
			text    string // "": the file is taken away
			want    policy.Mode
			problem bool
		}{
			{"changed", policyFor("enforce"), policy.Enforce, false},
			{"broken", "rules: []\n", policy.Enforce, true},
			{"still broken", "rules: []\n", policy.Enforce, true},
			{"empty", "\n", policy.Enforce, true},
			{"mended", policyFor("off"), policy.Off, false},
			{"gone", "", policy.Off, true},
			{"back as it was", policyFor("off"), policy.Off, false},
			{"broken again", "rules", policy.Off, true},
			{"as before that", policyFor("off"), policy.Off, false},
			{"changed again", policyFor("audit"), policy.Audit, false},
		} {
			if step.text == "" {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				save(t, path, step.text)
			}
			wait(time.Second)
			expect(t, step.name, f, step.want)
			if err := f.problem(); (err != nil) != step.problem {
				t.Errorf("%s: problem = %v, want one: %v", step.name, err, step.problem)
			}
		}
		if n := strings.Count(log.String(), "the last good policy stays in force"); n != 4 {
			t.Errorf("the log has %d complaints, want one for each of the 4 mistakes:\n%s", n, log)
		}
	})
}

// A ConfigMap is swapped by renaming a link to its folder; neither the file's
// name nor its link changes.
func TestPolicySymlinkSwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		point := func(to string) {
			t.Helper()
			if err := os.Symlink(to, filepath.Join(dir, "..data_tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		at := time.Now()
		for version, mode := range map[string]string{"..1": "audit", "..2": "enforce"} {
			if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, version, "policy.yaml")
			save(t, file, policyFor(mode))
			if err := os.Chtimes(file, at, at); err != nil { // the time tells nothing
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, "policy.yaml")
		if err := os.Symlink(filepath.Join("..data", "policy.yaml"), path); err != nil {
			t.Fatal(err)
		}
		point("..1")
		f := watched(t, path, newIdentityService(""), new(sharedLog))
		expect(t, "at first", f, policy.Audit)
		point("..2")
		wait(time.Second)
		expect(t, "after the swap", f, policy.Enforce)
		point("..1")
		wait(time.Second)
		expect(t, "after the swap back", f, policy.Audit)
	})
}

// A file that nobody has touched for a while is not read again, but for once a
// minute. Whatever is done to it shows, were the times of its content set back.
func TestPolicyFileIsReadWhenItChanged(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("files are read each time")
	}
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		at := time.Now()
		write := func(mode string) {
			t.Helper()
			save(t, path, policyFor(mode))
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		write("audit")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		written, _ := changed(info)
		time.Sleep(time.Until(written)) // the bubble's clock begins in another year than the file system's

		f := &policyFile{path: path, log: zerolog.Nop()}
		for _, step := range []struct {
			name string
			wait time.Duration
			do   func()
			read bool
			want policy.Mode
		}{
			{"at first", 0, nil, false, policy.Audit}, // loaded, and not vouched for
			{"too soon", settled - time.Second, nil, true, policy.Audit},
			{"left alone", time.Second, nil, true, policy.Audit},
			{"still left alone", time.Second, nil, false, policy.Audit},
			{"for long", readAgain - time.Second, nil, true, policy.Audit},
			{"after that", time.Second, nil, false, policy.Audit},
			{"other content of another length", time.Second, func() { write("off") }, false, policy.Off},
			{"read once more", time.Second, nil, true, policy.Off},
			{"another file of this content", time.Second, func() { os.Remove(path); write("off") }, true, policy.Off},
			{"and at last", time.Second, nil, false, policy.Off},
		} {
			time.Sleep(step.wait)
			if step.do != nil {
				step.do()
			}
			before := f.read
			time.Sleep(time.Nanosecond) // so that two readings differ
			f.look(t.Context())
			if read := f.read != before; read != step.read {
				t.Errorf("%s: was read through: %v, want %v", step.name, read, step.read)
			}
			if rule, err := f.For(policy.Subject{Owner: projectID}); err != nil || rule.Mode != step.want {
				t.Errorf("%s: For = %v, %v, want mode %s", step.name, rule, err, step.want)
			}
		}
	})
}

// However large a policy is, looking at it takes no memory: garbage of its size
// would have been collected three times a second, with all of the rules.
func TestLookingAtALargePolicyHoldsLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	save(t, path, policyFor("audit")+strings.Repeat("# nothing more\n", 1<<20))
	f := &policyFile{path: path, log: zerolog.Nop()}
	f.look(t.Context())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f.look(t.Context())
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
		t.Errorf("looking at a policy of 15 MiB that did not change allocated %d bytes, want 256 KiB at most", got)
	}
}

// What a name means is asked anew each hour, and every few seconds while nobody
// knows. An id that was found is remembered when Keystone is away; that there is
// no such project is not.
func TestPolicyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		save(t, path, namedPolicy)
		names := newIdentityService("?")
		f := watched(t, path, names, new(sharedLog))
		expect(t, "Keystone is away", f, "")
		names.id.Store(projectID)
		wait(unknownRetry)
		expect(t, "it is back", f, policy.Enforce)

		names.id.Store("?")
		wait(time.Hour)
		expect(t, "it is away again", f, policy.Enforce)
		save(t, path, namedPolicy+"# changed\n")
		wait(time.Second)
		expect(t, "the file is another", f, policy.Enforce)
		save(t, path, policyFor("audit")) // which has no name to remember
		wait(time.Second)
		save(t, path, namedPolicy)
		wait(time.Second)
		expect(t, "the name is new", f, "")

		names.id.Store("")
		wait(unknownRetry)
		expect(t, "there is no such project", f, policy.Audit)
		names.id.Store("?")
		wait(time.Hour)
		expect(t, "and now nobody knows", f, "")
		names.id.Store(projectID)
		wait(unknownRetry)
		expect(t, "it was created meanwhile", f, policy.Enforce)
		names.id.Store("b1b2b3b4b5b6b7b8b9b0a1a2a3a4a5a6")
		wait(time.Hour)
		expect(t, "the name is another project's", f, policy.Audit)
	})
}

// Without a file nothing is refused; a file that is wrong from the start is an
// error.
func TestPolicyAtStart(t *testing.T) {
	log := new(sharedLog)
	f, err := openPolicy(t.Context(), config.Config{}, newIdentityService(""), nil, zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "without a file", f, policy.Audit)
	if f.Enforcing() || !strings.Contains(log.String(), `"level":"warn"`) {
		t.Errorf("without a file: Enforcing = %v, and the log is %s", f.Enforcing(), log)
	}

	broken := filepath.Join(t.TempDir(), "policy.yaml")
	save(t, broken, "rules: []\n")
	for path, want := range map[string]string{
		broken:          "rules lists nothing",
		broken + ".not": "no such file",
	} {
		cfg := config.Config{PolicyFile: path, PolicyInterval: time.Second, ProjectRefresh: time.Hour}
		f, err := openPolicy(t.Context(), cfg, newIdentityService(""), nil, zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("openPolicy(%q) = %v, %v, want an error with %q", path, f, err, want)
		}
	}
}

// Break-glass is never silent: at load, every five minutes, and at its end,
// which comes by itself.
func TestBreakGlass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		rule := func(name string, until time.Duration) string {
			return "- {name: " + name + ", projects: all, mode: off, owner: Jane Doe, reason: the key manager is moved, until: " +
				time.Now().Add(until).Format(time.RFC3339) + "}\n"
		}
		const rest = "- {projects: all, mode: enforce, signers: any}\n"
		save(t, path, "rules:\n"+rule("over", -time.Hour)+rule("short", 12*time.Minute)+rest)
		log := new(sharedLog)
		f := watched(t, path, newIdentityService(""), log)
		expect(t, "while it is on", f, policy.Off)
		count := func(when string, level, text string, want int) {
			t.Helper()
			got := 0
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, `"level":"`+level+`"`) && strings.Contains(line, text) {
					got++
				}
			}
			if got != want {
				t.Errorf("%s: %d lines of level %s with %q, want %d:\n%s", when, got, level, text, want, log)
			}
		}
		gauge := func(when string, want string) {
			t.Helper()
			registry := prometheus.NewRegistry()
			f.measure(registry)
			err := testutil.GatherAndCompare(registry, strings.NewReader("# HELP countersign_break_glass 1 while a break-glass rule of the policy is on, 0 once it is over, by the rule's name.\n# TYPE countersign_break_glass gauge\n"+want), "countersign_break_glass")
			if err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		const on, ended = `"rule":"short","mode":"off"`, `"rule":"short","until"`
		count("at load", "error", on, 1)
		count("at load", "error", `"owner":"Jane Doe","cause":"the key manager is moved"`, 1)
		count("at load", "warn", `"rule":"over"`, 1)
		gauge("at load", "countersign_break_glass{rule=\"over\"} 0\ncountersign_break_glass{rule=\"short\"} 1\n")
		wait(11*time.Minute + 58*time.Second)
		count("before the end", "error", on, 3)
		count("before the end", "error", ended, 0)
		expect(t, "before the end", f, policy.Off)
		wait(3 * time.Second)
		count("after the end", "error", ended, 1)
		expect(t, "after the end", f, policy.Enforce)
		gauge("after the end", "countersign_break_glass{rule=\"over\"} 0\ncountersign_break_glass{rule=\"short\"} 0\n")

		save(t, path, "rules:\n"+rule("next", time.Hour)+rest)
		wait(time.Second)
		count("one after another", "error", `"rule":"next","mode":"off"`, 1)
		save(t, path, "rules:\n"+rest)
		wait(time.Second)
		count("taken away", "error", `"rule":"next","until"`, 1)
		wait(time.Hour)
		count("long after", "error", on, 3)
		count("long after", "error", ended, 1)
		gauge("long after", "")
	})
}

// A mistake is told in the same words by policy check, at start and at reload.
func TestSameSentence(t *testing.T) {
	for _, text := range []string{
		"rules: []\n",
		"rules:\n- {projects: all, mode: enforce}\n",
		"rules:\n- {projects: all, mode: audit, until: tomorrow}\n",
		"rules:\n- projects: [id: a]\n  mode: audit\n- projects: [id: a]\n  mode: off\n- {projects: all, mode: audit}\n",
		"rules:\n\t- projects: all\n",
		"rules:\n- {projects: all, visibility: [public], mode: audited, downloads: some}\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "policy.yaml")
			save(t, path, text)
			_, atStart := openPolicy(t.Context(), config.Config{PolicyFile: path}, nil, nil, zerolog.Nop())
			checked := newPolicyCheck()
			checked.SetArgs([]string{path})
			checked.SilenceErrors, checked.SilenceUsage = true, true
			atCheck := checked.Execute()

			save(t, path, policyFor("audit"))
			log := new(sharedLog)
			f := watched(t, path, newIdentityService(""), log)
			save(t, path, text)
			wait(time.Second)
			var mistakes *policy.Error
			if !errors.As(f.problem(), &mistakes) {
				t.Fatalf("reload of %q = %v, want a *policy.Error", text, f.problem())
			}
			for _, problem := range mistakes.Problems {
				sentence := problem.Field + " " + problem.Text
				inJSON, _ := json.Marshal(sentence)
				if atStart == nil || !strings.Contains(atStart.Error(), fmt.Sprintf("line %d: %s", problem.Line, sentence)) {
					t.Errorf("at start: %v, want %q", atStart, sentence)
				}
				if atCheck == nil || !strings.Contains(atCheck.Error(), fmt.Sprintf("%s:%d: %s", path, problem.Line, sentence)) {
					t.Errorf("policy check: %v, want %q", atCheck, sentence)
				}
				if !strings.Contains(log.String(), strings.Trim(string(inJSON), `"`)) {
					t.Errorf("at reload: %s, want %q", log, sentence)
				}
			}
		})
	}
}
