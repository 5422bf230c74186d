package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	writers     = 5
	readers     = 3
	keysOfOwn   = 6 // of each writer
	keysOfAll   = 4 // that all writers share
	callTimeout = time.Second
)

// A load is workers that call random members, one call after the other, without retries.
type load struct {
	endpoints []string
	stubs     []pb.KVClient
	upkeep    []pb.MaintenanceClient
	keys      []string
	history   *history
	workers   sync.WaitGroup
}

func newLoad(endpoints []string) (*load, error) {
	l := &load{endpoints: endpoints, history: newHistory()}
	for _, endpoint := range endpoints {
		quickly := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond}
		conn, err := grpc.NewClient(strings.TrimPrefix(endpoint, "http://"),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: quickly, MinConnectTimeout: time.Second}))
		if err != nil {
			return nil, err
		}
		l.stubs = append(l.stubs, pb.NewKVClient(conn))
		l.upkeep = append(l.upkeep, pb.NewMaintenanceClient(conn))
	}
	for i := range writers * keysOfOwn {
		l.keys = append(l.keys, fmt.Sprintf("own/%d/%d", i/keysOfOwn, i%keysOfOwn))
	}
	for i := range keysOfAll {
		l.keys = append(l.keys, fmt.Sprintf("shared/%d", i))
	}
	return l, nil
}

func (l *load) start(ctx context.Context) {
	for i := range writers {
		l.workers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.put(i, n)
			}
		})
	}
	for range readers {
		l.workers.Go(func() {
			for ctx.Err() == nil {
				l.get()
			}
		})
	}
}

func (l *load) wait() { l.workers.Wait() }

func (l *load) anyone() pb.KVClient { return l.stubs[rand.IntN(len(l.stubs))] }

func (l *load) put(writer, n int) {
	w := write{l.keys[writer*keysOfOwn+rand.IntN(keysOfOwn)], fmt.Sprintf("%d-%d", writer, n)}
	if rand.IntN(3) == 0 {
		w.key = l.keys[writers*keysOfOwn+rand.IntN(keysOfAll)]
	}
	if rand.IntN(100) == 0 {
		w.value += strings.Repeat(".", 20000)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	l.history.trying(w)
	began := l.history.now()
	resp, err := l.anyone().Put(ctx, &pb.PutRequest{Key: []byte(w.key), Value: []byte(w.value)})
	if err != nil {
		l.pause(err)
		return
	}
	l.history.wrote(w, began, resp.Header.Revision)
}

func (l *load) get() {
	keys := []string{l.keys[rand.IntN(len(l.keys))]}
	req := &pb.RangeRequest{Key: []byte(keys[0])}
	if rand.IntN(10) == 0 {
		keys = l.keys
		req = &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	began := l.history.now(keys...)
	resp, err := l.anyone().Range(ctx, req)
	if err != nil {
		l.pause(err)
		return
	}
	l.history.read(keys, began, resp)
}

// pause keeps a worker from spinning at a member that is away.
func (l *load) pause(err error) {
	text, _, _ := strings.Cut(err.Error(), "127.0.0.1") // whichever port it was
	l.history.failed(fmt.Errorf("%s", text))
	time.Sleep(time.Millisecond)
}

// verify looks, with nobody writing any more, for every acknowledged put on every member, and compares the members.
func (l *load) verify() error {
	if err := l.settle(); err != nil {
		return err
	}
	for i, stub := range l.stubs {
		if err := l.verifyMember(stub); err != nil {
			return fmt.Errorf("%s: %w", l.endpoints[i], err)
		}
	}
	return nil
}

func (l *load) verifyMember(stub pb.KVClient) error {
	for revision, w := range l.history.acked { // T01: of a put that nobody made, absence must show
		if w.value += "!"; l.present(stub, revision, w) == nil {
			return fmt.Errorf("%v was never written, and is not missed", w)
		}
		break
	}
	revisions := make(chan int64)
	failures := make(chan error, 16)
	var checkers sync.WaitGroup
	for range cap(failures) {
		checkers.Go(func() {
			var first error
			for revision := range revisions {
				if err := l.present(stub, revision, l.history.acked[revision]); err != nil && first == nil {
					first = err
				}
			}
			failures <- first
		})
	}
	for revision := range l.history.acked {
		revisions <- revision
	}
	close(revisions)
	checkers.Wait()
	for range cap(failures) {
		if err := <-failures; err != nil {
			return err
		}
	}
	all, err := stub.Range(context.Background(), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		return err
	}
	for _, kv := range all.Kvs {
		if err := l.history.checkVersion(string(kv.Key), kv.Version); err != nil {
			return err
		}
	}
	return nil
}

// present asks a member for the state right after an acknowledged put, from its own store.
func (l *load) present(stub pb.KVClient, revision int64, w write) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	resp, err := stub.Range(ctx, &pb.RangeRequest{Key: []byte(w.key), Revision: revision, Serializable: true})
	if err != nil {
		return fmt.Errorf("reading %v, acknowledged at %d: %w", w, revision, err)
	}
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != w.value || resp.Kvs[0].ModRevision != revision {
		return fmt.Errorf("%v was acknowledged at %d, but there is %v", w, revision, resp.Kvs)
	}
	return nil
}

// settle waits until all members tell the same revision and hash: a put without an answer may still arrive late.
func (l *load) settle() error {
	var seen []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		seen = nil
		for i := range l.stubs {
			seen = append(seen, l.fingerprint(i))
		}
		same := true
		for _, s := range seen {
			same = same && s == seen[0] && !strings.HasPrefix(s, "error")
		}
		if same {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("the members do not come to one state: %s", strings.Join(seen, "; "))
}

func (l *load) fingerprint(member int) string {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if _, err := l.stubs[member].Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil {
		return "error " + err.Error()
	}
	got, err := l.upkeep[member].HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		return "error " + err.Error()
	}
	return fmt.Sprintf("revision %d, compacted %d, hash %08x", got.Header.Revision, got.CompactRevision, got.Hash)
}
