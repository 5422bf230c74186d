package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	clientPort = 2379
	peerPort   = 2380
)

// A member is one process in a network namespace of its own, so that links between members can be cut one by one and
// one way, while clients, who live outside, reach all of them.
type member struct {
	name, address string
	folder        string
	flags         []string
	process       *exec.Cmd
	ended         chan struct{} // closed when the process has ended
	mutex         sync.Mutex
	wanted        bool // false while it is meant to be down: then its end is no surprise
}

type world struct {
	binary, folder string
	members        []*member
	made           int
}

func run1(name string, arguments ...string) error {
	if output, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, bytes.TrimSpace(output))
	}
	return nil
}

func runAll(lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if err := run1(words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func newWorld(binary, folder string) (*world, error) {
	return &world{binary: binary, folder: folder}, runAll("ip link set lo up", "ip link add br0 type bridge",
		"ip address add 10.98.0.1/16 dev br0", "ip link set br0 up")
}

// add makes a namespace with an address; the process is started apart.
func (w *world) add(flags ...string) (*member, error) {
	w.made++
	m := &member{name: fmt.Sprintf("m%d", w.made), address: fmt.Sprintf("10.98.1.%d", w.made), flags: flags}
	m.folder = filepath.Join(w.folder, m.name)
	link := fmt.Sprintf("v%d", w.made)
	if err := runAll("ip netns add "+m.name, "ip link add "+link+" type veth peer name eth0 netns "+m.name,
		"ip link set "+link+" master br0 up", "ip -n "+m.name+" link set lo up",
		"ip -n "+m.name+" address add "+m.address+"/16 dev eth0", "ip -n "+m.name+" link set eth0 up"); err != nil {
		return nil, err
	}
	w.members = append(w.members, m)
	return m, os.MkdirAll(m.folder, 0o700)
}

func (m *member) clientURL() string { return fmt.Sprintf("http://%s:%d", m.address, clientPort) }
func (m *member) peerURL() string   { return fmt.Sprintf("http://%s:%d", m.address, peerPort) }

// start runs the member; more flags come behind those it always has.
func (w *world) start(m *member) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	log, err := os.OpenFile(filepath.Join(w.folder, m.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	arguments := append([]string{"netns", "exec", m.name, w.binary, "server", "--name", m.name, "--data-dir", m.folder,
		"--listen-client-urls", m.clientURL(), "--advertise-client-urls", m.clientURL(),
		"--listen-peer-urls", m.peerURL(), "--initial-advertise-peer-urls", m.peerURL()}, m.flags...)
	m.process = exec.Command("ip", arguments...) // `ip netns exec` becomes the member: the pid is its own
	m.process.Stdout, m.process.Stderr = log, log
	if err := m.process.Start(); err != nil {
		return err
	}
	m.wanted = true
	m.ended = make(chan struct{})
	go func(process *exec.Cmd, ended chan struct{}) {
		_ = process.Wait()
		close(ended)
	}(m.process, m.ended)
	return nil
}

func (m *member) signal(number syscall.Signal) error { return m.process.Process.Signal(number) }

// kill is SIGKILL; the process is gone when it returns.
func (m *member) kill() error {
	m.mutex.Lock()
	m.wanted = false
	m.mutex.Unlock()
	_ = m.signal(syscall.SIGCONT)
	if err := m.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-m.ended
	return nil
}

// stop is SIGTERM and the wait for an orderly end.
func (m *member) stop() error {
	m.mutex.Lock()
	m.wanted = false
	m.mutex.Unlock()
	if err := m.signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	select {
	case <-m.ended:
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s does not end after SIGTERM", m.name)
	}
	if code := m.process.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with %d after SIGTERM", m.name, code)
	}
	return nil
}

// surprised tells of a member that ended although nobody killed it.
func (w *world) surprised() error {
	for _, m := range w.members {
		m.mutex.Lock()
		wanted, ended := m.wanted, m.ended
		m.mutex.Unlock()
		select {
		case <-ended:
			if wanted {
				return fmt.Errorf("%s ended by itself: %v\n%s", m.name, m.process.ProcessState, w.tail(m))
			}
		default:
		}
	}
	return nil
}

func (w *world) tail(m *member) string {
	text, _ := os.ReadFile(filepath.Join(w.folder, m.name+".log"))
	return string(text[max(0, len(text)-2000):])
}

// cut drops what `from` sends to `to`. Connections stay up and silent, as behind a broken switch.
func cut(from, to *member) error {
	return run1("ip", "netns", "exec", to.name, "iptables", "-w", "-A", "INPUT", "-s", from.address, "-j", "DROP")
}

func heal(members []*member) error {
	for _, m := range members {
		if err := run1("ip", "netns", "exec", m.name, "iptables", "-w", "-F", "INPUT"); err != nil {
			return err
		}
	}
	return nil
}

// dropped counts the packets that the cuts have eaten: a cut that eats none is no fault.
func dropped(members []*member) (int, error) {
	total := 0
	for _, m := range members {
		output, err := exec.Command("ip", "netns", "exec", m.name, "iptables", "-w", "-nvxL", "INPUT").Output()
		if err != nil {
			return 0, err
		}
		for _, line := range strings.Split(string(output), "\n") {
			var packets, size int
			var target string
			if n, _ := fmt.Sscan(line, &packets, &size, &target); n == 3 && target == "DROP" {
				total += packets
			}
		}
	}
	return total, nil
}
