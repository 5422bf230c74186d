package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	workers       = 12 // as many for each member: those of one that is cut off do not hold up the others
	groupsAtATime = 8
	callTimeout   = time.Second
	thinkTime     = 4 * time.Millisecond // at most, between two calls of a worker
)

// A target is a member as its clients see it.
type target struct {
	member *member
	conn   *grpc.ClientConn
	kv     pb.KVClient
	upkeep pb.MaintenanceClient
	group  pb.ClusterClient
}

func dial(m *member) (*target, error) {
	quickly := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond}
	conn, err := grpc.NewClient(fmt.Sprintf("%s:%d", m.address, clientPort),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quickly, MinConnectTimeout: time.Second}))
	if err != nil {
		return nil, err
	}
	return &target{m, conn, pb.NewKVClient(conn), pb.NewMaintenanceClient(conn), pb.NewClusterClient(conn)}, nil
}

// A load is workers, each of which calls one member, one call after the other, without retries. What they were told is kept
// by round; each round has keys of its own, so that calls without an answer trouble the checker for one round only.
type load struct {
	start time.Time
	stop  context.CancelFunc
	busy  sync.WaitGroup

	mutex    sync.Mutex
	targets  []*target
	round    int
	history  map[int][]porcupine.Operation // by round
	underWay map[int]int                   // calls, by round
	revision atomic.Int64                  // the highest that an answer has told
	broken   error                         // the first answer that goes back behind it

	acked, unknown, refused atomic.Int64
	lastAcked               atomic.Int64 // when the youngest acknowledged put began
	serial                  atomic.Int64
}

func (l *load) now() int64 { return int64(time.Since(l.start)) }

func (l *load) pick(worker int) (*target, int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.underWay[l.round]++
	return l.targets[worker%len(l.targets)], l.round
}

func (l *load) done(round int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.underWay[round]--
}

func (l *load) begin(targets []*target) {
	l.start, l.targets = time.Now(), targets
	l.history, l.underWay = map[int][]porcupine.Operation{}, map[int]int{}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for i := range workers {
		l.busy.Go(func() {
			var last [groupsAtATime][keysOfGroup]cell // what this worker saw last; what txns expect
			for ctx.Err() == nil {
				t, round := l.pick(i)
				g := rand.IntN(groupsAtATime)
				in := randomCall(fmt.Sprintf("r%d/g%d", round, g), &last[g], l.serial.Add(1))
				l.call(i, t, round, in, &last[g])
				l.done(round)
				time.Sleep(time.Duration(rand.Int64N(int64(thinkTime))))
			}
		})
	}
}

// end stops the workers; every call has its answer, or will never have one, when it returns.
func (l *load) end() {
	l.stop()
	l.busy.Wait()
}

func (l *load) retarget(targets []*target) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.targets = targets
}

// nextRound gives the workers fresh keys, and hands over what they were told about the old ones once the last call on
// those has ended.
func (l *load) nextRound() []porcupine.Operation {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	old := l.round
	l.round++
	for l.underWay[old] != 0 {
		l.mutex.Unlock()
		time.Sleep(time.Millisecond)
		l.mutex.Lock()
	}
	history := l.history[old]
	delete(l.history, old)
	delete(l.underWay, old)
	return history
}

func randomCall(group string, last *[keysOfGroup]cell, serial int64) input {
	in := input{group: group, key: rand.IntN(keysOfGroup), value: fmt.Sprintf("v%d", serial)}
	switch n := rand.IntN(10); {
	case n < 3:
		in.kind = opPut
	case n < 4:
		in.kind = opDelete
	case n < 6:
		in.kind = opGet
	case n < 7:
		in.kind = opRange
	default:
		in.kind = opTxn
		in.second, in.third = rand.IntN(keysOfGroup), 0
		in.third = (in.second + 1 + rand.IntN(keysOfGroup-1)) % keysOfGroup
		in.expect = last[in.key]
	}
	return in
}

func (in input) name(key int) []byte { return []byte(fmt.Sprintf("%s/%d", in.group, key)) }

func (in input) all() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte(in.group + "/"), RangeEnd: []byte(in.group + "0")}
}

// cells puts what was found in the places of the keys [first, first + count).
func (in input) cells(kvs []*mvccpb.KeyValue, first, count int) []cell {
	found := make([]cell, count)
	for _, kv := range kvs {
		for i := range found {
			if string(kv.Key) == string(in.name(first+i)) {
				found[i] = cell{string(kv.Value), kv.Version}
			}
		}
	}
	return found
}

func previous(in input, kv *mvccpb.KeyValue) []cell {
	if kv == nil {
		return []cell{{}}
	}
	return in.cells([]*mvccpb.KeyValue{kv}, in.key, 1)
}

func (in input) transaction() *pb.TxnRequest {
	condition := &pb.Compare{Key: in.name(in.key), Target: pb.Compare_VERSION, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_Version{Version: in.expect.version}}
	compare := []*pb.Compare{condition}
	if in.expect.version != 0 {
		compare = append(compare, &pb.Compare{Key: in.name(in.key), Target: pb.Compare_VALUE, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_Value{Value: []byte(in.expect.value)}})
	}
	return &pb.TxnRequest{Compare: compare,
		Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: in.name(in.second), Value: []byte(in.value)}}},
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: in.name(in.third)}}},
			{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: in.name(in.key)}}},
		},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: in.all()}}},
	}
}

// ask makes the call and translates its answer.
func (in input) ask(ctx context.Context, kv pb.KVClient) (out output, header *pb.ResponseHeader, err error) {
	switch in.kind {
	case opPut:
		resp, err := kv.Put(ctx, &pb.PutRequest{Key: in.name(in.key), Value: []byte(in.value), PrevKv: true})
		if err != nil {
			return out, nil, err
		}
		return output{cells: previous(in, resp.PrevKv)}, resp.Header, nil
	case opDelete:
		resp, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: in.name(in.key), PrevKv: true})
		if err != nil {
			return out, nil, err
		}
		var old *mvccpb.KeyValue
		if len(resp.PrevKvs) != 0 {
			old = resp.PrevKvs[0]
		}
		return output{cells: previous(in, old)}, resp.Header, nil
	case opGet:
		resp, err := kv.Range(ctx, &pb.RangeRequest{Key: in.name(in.key)})
		if err != nil {
			return out, nil, err
		}
		return output{cells: in.cells(resp.Kvs, in.key, 1)}, resp.Header, nil
	case opRange:
		resp, err := kv.Range(ctx, in.all())
		if err != nil {
			return out, nil, err
		}
		return output{cells: in.cells(resp.Kvs, 0, keysOfGroup)}, resp.Header, nil
	case opTxn:
		resp, err := kv.Txn(ctx, in.transaction())
		if err != nil {
			return out, nil, err
		}
		if !resp.Succeeded {
			return output{cells: in.cells(resp.Responses[0].GetResponseRange().Kvs, 0, keysOfGroup)}, resp.Header, nil
		}
		return output{succeeded: true, cells: in.cells(resp.Responses[2].GetResponseRange().Kvs, in.key, 1)}, resp.Header, nil
	}
	panic("unknown kind")
}

func (in input) writes() bool { return in.kind == opPut || in.kind == opDelete || in.kind == opTxn }

// neverSent says that the request cannot have reached a member: there was no connection.
func neverSent(err error) bool {
	s := status.Convert(err)
	return s.Code() == codes.Unavailable && strings.Contains(s.Message(), "while dialing")
}

// call makes one call and writes down what came of it.
func (l *load) call(client int, t *target, round int, in input, last *[keysOfGroup]cell) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	floor := l.revision.Load()
	began := l.now()
	out, header, err := in.ask(ctx, t.kv)
	op := porcupine.Operation{ClientId: client, Input: in, Call: began, Output: out, Return: l.now()}
	if err != nil {
		if !in.writes() || neverSent(err) {
			l.refused.Add(1)
		} else {
			l.unknown.Add(1)
			op.Output, op.Return = output{unknown: true}, int64(1)<<60
			l.keep(round, op, nil)
		}
		time.Sleep(20 * time.Millisecond) // each write without an answer makes the checker's search longer
		return
	}
	for { // the highest revision that anybody was told
		old := l.revision.Load()
		if header.Revision <= old || l.revision.CompareAndSwap(old, header.Revision) {
			break
		}
	}
	if in.kind == opPut && began > l.lastAcked.Load() {
		l.lastAcked.Store(began)
	}
	l.acked.Add(1)
	remember(in, out, last)
	var broken error
	if header.Revision < floor {
		broken = fmt.Errorf("%s was answered at revision %d, but %d had been told before it began", in, header.Revision, floor)
	}
	l.keep(round, op, broken)
}

// remember is what the worker will expect in its next transactions.
func remember(in input, out output, last *[keysOfGroup]cell) {
	switch {
	case in.kind == opPut:
		last[in.key] = out.cells[0].put(in.value)
	case in.kind == opDelete:
		last[in.key] = cell{}
	case in.kind == opGet:
		last[in.key] = out.cells[0]
	case in.kind == opTxn && out.succeeded:
		before := *last
		before[in.key] = in.expect
		*last, _ = next(before, in)
	default:
		copy(last[:], out.cells)
	}
}

func (l *load) keep(round int, op porcupine.Operation, broken error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.history[round] = append(l.history[round], op)
	if l.broken == nil {
		l.broken = broken
	}
}
