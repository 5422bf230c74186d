// Command storm puts a cluster under load of puts, deletes, reads and transactions over several keys, and does to it what
// machines and networks do: kills members, lets them stand still, cuts links (both ways, one way, between two members),
// keeps a member away until it needs a snapshot, replaces members. What the clients were told must be linearizable:
// Porcupine searches for an order of all calls in which each answer is that of a single copy (model.go).
//
// It runs in namespaces of its own for network, mounts and processes (run.sh makes them).
//
//	STORM_BINARY   nabata
//	STORM_DIR      an empty folder for data and logs
//	STORM_SEED     which faults, when, to whom (else from the clock); the load itself is not replayed
//	STORM_ROUNDS   how many faults (36)
//	STORM_MEMBERS  3 or 5 (3)
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	failoverDeadline = 15 * time.Second // from a fault, or its end, to the next acknowledged put
	checkDeadline    = 60 * time.Second // for the checker, of one round
	callsEachRound   = 400              // the least that makes a fault mean something (T03)
	catchupEntries   = 300              // entries kept for slow members: who lacks more needs a snapshot
)

func main() {
	if err := run(); err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func number(name string, otherwise uint64) uint64 {
	value, err := strconv.ParseUint(cmp.Or(os.Getenv(name), fmt.Sprint(otherwise)), 0, 64)
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	return value
}

// A storm is the cluster, its load, and what was done to it so far.
type storm struct {
	*world
	targets  []*target
	load     *load
	random   *rand.Rand
	effects  map[string]int // faults that took effect, by name
	failover []time.Duration
	calls    int           // judged
	judging  time.Duration // the longest that the checker took for a round
}

// A fault is done to the running cluster and undone again. It returns an error when it had no effect.
type fault struct {
	name string
	do   func(s *storm) error
}

var faults = []fault{
	{"leader killed", func(s *storm) error { return s.killed(s.leader) }},
	{"leader stands still", func(s *storm) error { return s.paused(s.leader) }},
	{"leader cut off", func(s *storm) error { return s.leaderCut(true, true) }},
	{"follower away until it needs a snapshot", lagged},
	{"follower killed", func(s *storm) error { return s.killed(s.follower) }},
	{"leader heard by nobody", func(s *storm) error { return s.leaderCut(true, false) }},
	{"member replaced", replaced},
	{"all killed", allKilled},
	{"follower stands still", func(s *storm) error { return s.paused(s.follower) }},
	{"leader hears nobody", func(s *storm) error { return s.leaderCut(false, true) }},
	{"link between two members cut", linkCut},
	{"leader killed while a follower stands still", killedWhilePaused},
}

func run() error {
	seed := number("STORM_SEED", uint64(time.Now().UnixNano())>>20)
	rounds, members := int(number("STORM_ROUNDS", 36)), int(number("STORM_MEMBERS", 3))
	fmt.Printf("STORM_SEED=%d STORM_ROUNDS=%d STORM_MEMBERS=%d\n", seed, rounds, members)
	s := &storm{load: &load{}, random: rand.New(rand.NewPCG(seed, 0)), effects: map[string]int{}}
	var err error
	if s.world, err = newWorld(os.Getenv("STORM_BINARY"), os.Getenv("STORM_DIR")); err != nil {
		return err
	}
	if err := s.found(members); err != nil {
		return err
	}
	begun := time.Now()
	s.load.begin(s.targets)
	for n := 0; n < rounds && err == nil; n++ {
		err = s.round(n)
	}
	s.load.end()
	if err == nil {
		err = errors.Join(s.settle(), s.judge())
	}
	fmt.Printf("%d rounds in %.0f s: %d calls answered, %d writes unknown, %d calls without an answer or effect; %d calls judged, the longest round in %.1f s\n", rounds,
		time.Since(begun).Seconds(), s.load.acked.Load(), s.load.unknown.Load(), s.load.refused.Load(), s.calls, s.judging.Seconds())
	for _, name := range slices.Sorted(maps.Keys(s.effects)) {
		fmt.Printf("%5d x %s\n", s.effects[name], name)
	}
	if err != nil {
		return err
	}
	for i, f := range faults {
		if i < rounds && s.effects[f.name] == 0 {
			return fmt.Errorf("%q never took effect", f.name)
		}
	}
	if len(s.failover) != 0 {
		slices.Sort(s.failover)
		fmt.Printf("from the loss of a leader to the next put: median %d ms, longest %d ms\n",
			s.failover[len(s.failover)/2].Milliseconds(), s.failover[len(s.failover)-1].Milliseconds())
	}
	for _, m := range s.members {
		if err := m.stop(); err != nil {
			return err
		}
	}
	fmt.Println("every answer is that of one copy, and all members are equal")
	return nil
}

func (s *storm) found(count int) error {
	var initial []string
	for range count {
		m, err := s.add()
		if err != nil {
			return err
		}
		initial = append(initial, m.name+"="+m.peerURL())
	}
	for _, m := range s.members {
		m.flags = s.flags("new", initial)
		if err := s.start(m); err != nil {
			return err
		}
		t, err := dial(m)
		if err != nil {
			return err
		}
		s.targets = append(s.targets, t)
	}
	return s.until("the first put", failoverDeadline, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		_, err := s.targets[0].kv.Put(ctx, &pb.PutRequest{Key: []byte("first"), Value: []byte("put")})
		return err == nil
	})
}

func (s *storm) flags(state string, initial []string) []string {
	return []string{"--initial-cluster-state", state, "--initial-cluster", strings.Join(initial, ","),
		"--initial-cluster-token", "storm", "--snapshot-catchup-entries", fmt.Sprint(catchupEntries)}
}

// until waits for a condition, and notices a member that has ended by itself meanwhile.
func (s *storm) until(what string, within time.Duration, holds func() bool) error {
	for end := time.Now().Add(within); !holds(); {
		if err := s.surprised(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v", what, within)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// serves waits for a put that began after now.
func (s *storm) serves(what string) (time.Duration, error) {
	from := s.load.now()
	err := s.until("a put after "+what, failoverDeadline, func() bool { return s.load.lastAcked.Load() > from })
	return time.Duration(s.load.now() - from), err
}

func (s *storm) round(n int) error {
	f := faults[n%len(faults)]
	time.Sleep(time.Duration(s.random.Int64N(int64(300 * time.Millisecond)))) // the random moment
	before := s.load.acked.Load()
	if err := f.do(s); err != nil {
		return fmt.Errorf("round %d, %s: %w", n, f.name, err)
	}
	s.effects[f.name]++
	if _, err := s.serves("the end of the fault"); err != nil {
		return fmt.Errorf("round %d, %s: %w", n, f.name, err)
	}
	if err := s.surprised(); err != nil {
		return fmt.Errorf("round %d, %s: %w", n, f.name, err)
	}
	if err := s.until("enough load to mean anything", failoverDeadline, func() bool {
		return s.load.acked.Load()-before >= callsEachRound
	}); err != nil {
		return fmt.Errorf("round %d, %s: %w", n, f.name, err)
	}
	fmt.Printf("round %2d: %s; %d calls answered\n", n, f.name, s.load.acked.Load()-before)
	return s.judge()
}

// judge hands what clients were told since the last time to the checker.
func (s *storm) judge() error {
	history := s.load.nextRound()
	s.calls += len(history)
	s.load.mutex.Lock()
	broken := s.load.broken
	s.load.mutex.Unlock()
	if broken != nil {
		return broken
	}
	begun := time.Now()
	result, info := porcupine.CheckOperationsVerbose(model, history, checkDeadline)
	s.judging = max(s.judging, time.Since(begun))
	if result == porcupine.Ok {
		return nil
	}
	path := s.folder + "/history.html"
	if err := porcupine.VisualizePath(model, info, path); err != nil {
		return err
	}
	if result == porcupine.Unknown {
		return fmt.Errorf("the checker did not come to a verdict within %v (%s)", checkDeadline, path)
	}
	return fmt.Errorf("the answers are not linearizable: %s", path)
}

// ---- who is who ----

// leader is the member that most of the running ones follow in the highest term; nil: none.
func (s *storm) leader() *target {
	var found *target
	var term uint64
	for _, t := range s.targets {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		resp, err := t.upkeep.Status(ctx, &pb.StatusRequest{})
		cancel()
		if err == nil && resp.Leader == resp.Header.MemberId && resp.RaftTerm > term {
			found, term = t, resp.RaftTerm
		}
	}
	return found
}

func (s *storm) follower() *target {
	l := s.leader()
	if l == nil {
		return nil
	}
	for {
		if t := s.targets[s.random.IntN(len(s.targets))]; t != l {
			return t
		}
	}
}

// who waits until there is such a member: elections may be under way.
func (s *storm) who(which func() *target) (*target, error) {
	var t *target
	err := s.until("a leader", failoverDeadline, func() bool { t = which(); return t != nil })
	return t, err
}

// others are all members but this one.
func (s *storm) others(t *target) []*target {
	return slices.DeleteFunc(slices.Clone(s.targets), func(o *target) bool { return o == t })
}

// replacedBy waits for another leader and notes how long puts took to go on.
func (s *storm) replacedBy(old *target, what string) error {
	took, err := s.serves(what)
	if err != nil {
		return err
	}
	s.failover = append(s.failover, took)
	return s.until("another leader", failoverDeadline, func() bool { t := s.leader(); return t != nil && t != old })
}

// ---- faults ----

func (s *storm) killed(which func() *target) error {
	t, err := s.who(which)
	if err != nil {
		return err
	}
	if err := t.member.kill(); err != nil {
		return err
	}
	if s.random.IntN(3) != 0 { // else it is back before the others notice
		if _, err := s.serves("the kill"); err != nil {
			return err
		}
	}
	return s.back(t)
}

// back starts a killed member again and waits until it takes part.
func (s *storm) back(t *target) error {
	if err := s.start(t.member); err != nil {
		return err
	}
	return s.until(t.member.name+" answers again", failoverDeadline, func() bool { return answers(t) })
}

// answers says whether a linearizable read through this member works.
func answers(t *target) bool {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, err := t.kv.Range(ctx, &pb.RangeRequest{Key: []byte("first")})
	return err == nil
}

func allKilled(s *storm) error {
	for _, t := range s.targets {
		if err := t.member.kill(); err != nil {
			return err
		}
	}
	for _, t := range s.targets {
		if err := s.start(t.member); err != nil {
			return err
		}
	}
	for _, t := range s.targets {
		if err := s.until(t.member.name+" answers again", failoverDeadline, func() bool { return answers(t) }); err != nil {
			return err
		}
	}
	return nil
}

// paused is SIGSTOP for a while around the election timeout, and SIGCONT. A leader that wakes up must not answer from
// what it remembers.
func (s *storm) paused(which func() *target) error {
	t, err := s.who(which)
	if err != nil {
		return err
	}
	wasLeader := s.leader() == t
	if err := t.member.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if wasLeader && s.random.IntN(3) != 0 {
		err = s.replacedBy(t, "the leader stood still")
	} else {
		time.Sleep(time.Duration(s.random.Int64N(int64(1500 * time.Millisecond))))
	}
	return errors.Join(err, t.member.signal(syscall.SIGCONT),
		s.until(t.member.name+" answers again", failoverDeadline, func() bool { return answers(t) }))
}

func killedWhilePaused(s *storm) error {
	l, err := s.who(s.leader)
	if err != nil {
		return err
	}
	f := s.others(l)[s.random.IntN(len(s.targets)-1)]
	if err := f.member.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(time.Duration(s.random.Int64N(int64(500 * time.Millisecond))))
	if err := l.member.kill(); err != nil {
		return err
	}
	if err := f.member.signal(syscall.SIGCONT); err != nil {
		return err
	}
	if err := s.replacedBy(l, "the leader was killed"); err != nil {
		return err
	}
	return s.back(l)
}

// ate notes how much the cuts have dropped, heals them, and says so when they dropped nothing.
func (s *storm) ate() error {
	packets, err := dropped(s.members)
	if err := errors.Join(err, heal(s.members)); err != nil {
		return err
	}
	if packets == 0 {
		return errors.New("the cut dropped no packet")
	}
	return nil
}

func (s *storm) leaderCut(out, in bool) error {
	l, err := s.who(s.leader)
	if err != nil {
		return err
	}
	for _, o := range s.others(l) {
		if out {
			err = errors.Join(err, cut(l.member, o.member))
		}
		if in {
			err = errors.Join(err, cut(o.member, l.member))
		}
	}
	if err == nil {
		err = s.replacedBy(l, "the leader was cut off")
	}
	time.Sleep(time.Duration(s.random.Int64N(int64(800 * time.Millisecond)))) // the two sides go apart
	return errors.Join(err, s.ate(), s.until(l.member.name+" answers again", failoverDeadline, func() bool { return answers(l) }))
}

// linkCut takes the link between the leader and one follower, or between two followers, both ways: who sees a quorum
// goes on, and nobody that cannot win keeps asking for votes. [E04]
func linkCut(s *storm) error {
	a := s.targets[s.random.IntN(len(s.targets))]
	b := s.others(a)[s.random.IntN(len(s.targets)-1)]
	if err := errors.Join(cut(a.member, b.member), cut(b.member, a.member)); err != nil {
		return err
	}
	_, err := s.serves("a link was cut")
	time.Sleep(1500*time.Millisecond + time.Duration(s.random.Int64N(int64(time.Second)))) // longer than an election timeout
	if err == nil {
		_, err = s.serves("a link was cut for long")
	}
	return errors.Join(err, s.ate())
}

// lagged keeps a follower away until the others have forgotten what it lacks, and sees it take a snapshot.
func lagged(s *storm) error {
	f, err := s.who(s.follower)
	if err != nil {
		return err
	}
	before := received(f)
	for _, o := range s.others(f) {
		err = errors.Join(err, cut(f.member, o.member), cut(o.member, f.member))
	}
	if err == nil {
		from := s.load.revision.Load()
		err = s.until("enough writes", 2*failoverDeadline, func() bool { return s.load.revision.Load() > from+4*catchupEntries })
	}
	if err := errors.Join(err, s.ate()); err != nil {
		return err
	}
	return s.until(f.member.name+" takes a snapshot", failoverDeadline, func() bool { return received(f) > before && answers(f) })
}

// received is how many snapshots the member has taken since it started.
func received(t *target) int {
	resp, err := (&http.Client{Timeout: callTimeout}).Get(t.member.clientURL() + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	total := 0
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "etcd_network_snapshot_receive_success{") {
			n, _ := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
			total += n
		}
	}
	return total
}

// replaced adds a new member as a learner, promotes it, and removes another one for good, the leader included.
func replaced(s *storm) error {
	out := s.targets[s.random.IntN(len(s.targets))]
	m, err := s.add()
	if err != nil {
		return err
	}
	asked := s.others(out)[0]
	ctx, cancel := context.WithTimeout(context.Background(), 4*failoverDeadline)
	defer cancel()
	var id uint64
	if err := s.until(m.name+" is added", 2*failoverDeadline, func() bool {
		_, err = asked.group.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{m.peerURL()}, IsLearner: true})
		id = memberAt(ctx, asked, m.peerURL()) // an attempt without an answer may have added it as well
		return id != 0
	}); err != nil {
		return err
	}
	initial := []string{m.name + "=" + m.peerURL()}
	for _, t := range s.targets {
		initial = append(initial, t.member.name+"="+t.member.peerURL())
	}
	m.flags = s.flags("existing", initial)
	if err := s.start(m); err != nil {
		return err
	}
	t, err := dial(m)
	if err != nil {
		return err
	}
	if err := s.until(m.name+" is promoted", 2*failoverDeadline, func() bool {
		_, err = asked.group.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id})
		return err == nil
	}); err != nil {
		return fmt.Errorf("promoting %s: %w", m.name, err)
	}
	status, err := out.upkeep.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return err
	}
	out.member.mutex.Lock()
	out.member.wanted = false
	out.member.mutex.Unlock()
	s.targets = append(s.others(out), t)
	s.load.retarget(s.targets)
	if err := s.until(out.member.name+" is removed", 2*failoverDeadline, func() bool {
		_, err = asked.group.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: status.Header.MemberId})
		return err == nil || strings.Contains(err.Error(), "member not found")
	}); err != nil {
		return err
	}
	if err := s.until(out.member.name+" ends", failoverDeadline, func() bool {
		select {
		case <-out.member.ended:
			return true
		default:
			return false
		}
	}); err != nil {
		return err
	}
	s.members = slices.DeleteFunc(s.members, func(o *member) bool { return o == out.member })
	return s.until(m.name+" answers", failoverDeadline, func() bool { return answers(t) })
}

// memberAt is the id of the member with this peer URL; 0: there is none, or nobody tells.
func memberAt(ctx context.Context, t *target, url string) uint64 {
	resp, err := t.group.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		return 0
	}
	for _, m := range resp.Members {
		if slices.Contains(m.PeerURLs, url) {
			return m.ID
		}
	}
	return 0
}

// settle waits until all members tell the same revision and hash: a write without an answer may still arrive late.
func (s *storm) settle() error {
	var seen []string
	err := s.until("all members are equal", failoverDeadline, func() bool {
		seen = nil
		for _, t := range s.targets {
			seen = append(seen, fingerprint(t))
		}
		return !strings.HasPrefix(seen[0], "error") && len(slices.Compact(slices.Clone(seen))) == 1
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.Join(seen, "; "))
	}
	return nil
}

func fingerprint(t *target) string {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if !answers(t) {
		return "error: no read"
	}
	got, err := t.upkeep.HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		return "error " + err.Error()
	}
	return fmt.Sprintf("revision %d, compacted %d, hash %08x", got.Header.Revision, got.CompactRevision, got.Hash)
}
