package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// A request is one call, the same to both clusters.
type request struct {
	kind     string // which RPC, or Unknown, or Malformed
	method   string // of an Unknown or Malformed one
	message  proto.Message
	local    bool // answered from what one member holds: needs a barrier before
	write    bool // must not be sent twice
	sorted   bool // has a custom sort somewhere
	hashKept bool // HashKV of the revision that was compacted to last: etcd has kept the hash of before
}

func (r *request) String() string {
	if r.kind == "Malformed" {
		return fmt.Sprintf("%s %s %x", r.kind, r.method, r.message.ProtoReflect().GetUnknown())
	}
	return fmt.Sprintf("%s%s {%s}", r.kind, r.method, clip(prototext.MarshalOptions{}.Format(r.message), 4000))
}

func describeAll(history []*request) string {
	lines := make([]string, 0, len(history))
	for _, req := range history {
		lines = append(lines, req.String())
	}
	return strings.Join(lines, "\n")
}

func hashRequest(revision int64) *request {
	return &request{kind: "HashKV", message: &pb.HashKVRequest{Revision: revision}, local: true}
}

// A generator draws requests that fit the state of the store: it follows the revisions in the answers.
type generator struct {
	random    *rand.Rand
	revision  int64
	compacted int64
	compacts  map[int64]bool // every revision compacted to
}

func newGenerator(random *rand.Rand) *generator {
	return &generator{random: random, revision: 1, compacted: -1, compacts: map[int64]bool{}}
}

func (g *generator) learn(req *request, a answer) {
	if a.err != nil {
		return
	}
	if m, ok := a.message.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		g.revision = max(g.revision, m.GetHeader().GetRevision())
	}
	if req.kind == "Compact" {
		g.compacted = req.message.(*pb.CompactionRequest).Revision
		g.compacts[g.compacted] = true
	}
}

func (g *generator) oneIn(n int) bool { return g.random.IntN(n) == 0 }

func pick[T any](g *generator, from ...T) T { return from[g.random.IntN(len(from))] }

func (g *generator) next() *request {
	switch n := g.random.IntN(1000); {
	case n < 300:
		return &request{kind: "Put", message: g.put(g.key()), write: true}
	case n < 570:
		m := g.rangeRequest()
		return &request{kind: "Range", message: m, local: m.Serializable, sorted: hasCustomSort(m)}
	case n < 660:
		return &request{kind: "DeleteRange", message: g.deleteRange(), write: true}
	case n < 900:
		return g.txnRequest()
	case n < 950:
		m := g.rangeRequest()
		if !g.oneIn(8) {
			m.SortOrder, m.SortTarget = pick(g, pb.RangeRequest_NONE, pb.RangeRequest_NONE, pb.RangeRequest_ASCEND), pb.RangeRequest_KEY
			m.MinModRevision, m.MaxModRevision, m.MinCreateRevision, m.MaxCreateRevision = 0, 0, 0, 0
		}
		if m.SortOrder == pb.RangeRequest_NONE {
			// etcd sorts each chunk for itself by the target, so its answer hangs on how it cuts.
			m.SortTarget = pb.RangeRequest_KEY
		}
		return &request{kind: "RangeStream", message: m, local: m.Serializable}
	case n < 962:
		m := &pb.CompactionRequest{Revision: g.compactRevision(), Physical: g.oneIn(3)}
		return &request{kind: "Compact", message: m, write: true}
	case n < 991:
		req := hashRequest(g.hashRevision())
		req.hashKept = g.compacted >= 0 && req.message.(*pb.HashKVRequest).Revision == g.compacted
		return req
	case n < 995:
		return g.huge()
	case n < 998:
		method := pick(g, "/etcdserverpb.KV/Nope", "/etcdserverpb.KV/range", "/etcdserverpb.Nope/Range", "/no.such.Service/Call")
		return &request{kind: "Unknown", method: method, message: &pb.RangeRequest{Key: []byte("k")}}
	default:
		return g.malformed()
	}
}

// ---- keys, values, revisions

func (g *generator) key() []byte {
	switch n := g.random.IntN(100); {
	case n < 35:
		return fmt.Appendf(nil, "hot%d", g.random.IntN(5))
	case n < 75:
		return fmt.Appendf(nil, "dir/%c/%02d", 'a'+g.random.IntN(4), g.random.IntN(25))
	case n < 97:
		key := make([]byte, 1+g.random.IntN(3))
		for i := range key {
			key[i] = pick(g, byte(0), 1, 0x2f, 0x7f, 0x80, 0xfe, 0xff)
		}
		return key
	case n < 98:
		return bytes.Repeat([]byte{'L'}, 1000+g.random.IntN(2000))
	case n < 99:
		return []byte{0}
	default:
		return nil
	}
}

func (g *generator) rangeEnd(key []byte) []byte {
	switch g.random.IntN(10) {
	case 0, 1, 2:
		return nil
	case 3:
		return []byte{0}
	case 4:
		return append(bytes.Clone(key), 0)
	case 5:
		return g.key()
	default:
		cut := key[:min(len(key), pick(g, 1, 3, 4, 5, 6))]
		return prefixEnd(cut)
	}
}

// prefixEnd is the first key behind all that begin with `prefix`.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// span is a key and where its range ends; a prefix starts at the prefix.
func (g *generator) span() (key, end []byte) {
	if g.oneIn(3) {
		prefix := pick(g, []byte("dir/"), []byte("dir/a"), []byte("dir/b/"), []byte("hot"), []byte{0xff}, []byte("h"))
		return prefix, prefixEnd(prefix)
	}
	if g.oneIn(20) {
		return []byte{0}, []byte{0}
	}
	key = g.key()
	return key, g.rangeEnd(key)
}

func (g *generator) value() []byte {
	switch n := g.random.IntN(200); {
	case n < 30:
		return nil
	case n < 120:
		return fmt.Appendf(nil, "v%d", g.random.IntN(10))
	case n < 199:
		return g.bytes(g.random.IntN(300))
	default:
		return g.bytes(g.random.IntN(100000))
	}
}

func (g *generator) bytes(length int) []byte {
	value := make([]byte, length)
	for i := range value {
		value[i] = byte(g.random.Uint32())
	}
	return value
}

// readRevision is mostly "newest", else around and between the compacted and the current revision, or absurd.
func (g *generator) readRevision() int64 {
	switch n := g.random.IntN(100); {
	case n < 60:
		return 0
	case n < 85:
		return g.between(g.compacted, g.revision)
	case n < 92:
		return g.compacted + g.random.Int64N(5) - 2
	case n < 97:
		return g.revision + g.random.Int64N(5) - 2
	default:
		return pick(g, -1, -2, 1, 2, math.MaxInt64, math.MinInt64, int64(math.MaxInt32)+1)
	}
}

func (g *generator) between(low, high int64) int64 {
	return low + g.random.Int64N(max(1, high-low+1))
}

func (g *generator) hashRevision() int64 {
	for {
		revision := g.readRevision()
		if !g.compacts[revision] || revision == 0 || revision == g.compacted {
			return revision
		}
	}
}

// compactRevision is never one that etcd takes for 0, the revision before the first: it keeps the hash of that
// compaction, and HashKV without a revision (which is 0 too) then answers it for ever after.
func (g *generator) compactRevision() int64 {
	for {
		revision := g.anyCompactRevision()
		if revision != 0 || g.compacted >= 0 {
			return revision
		}
	}
}

func (g *generator) anyCompactRevision() int64 {
	switch g.random.IntN(12) {
	case 0:
		return g.compacted - g.random.Int64N(3)
	case 1:
		return g.revision + g.random.Int64N(3)
	case 2:
		return pick[int64](g, 0, -1, math.MaxInt64, math.MinInt64)
	default:
		return g.between(max(g.compacted+1, g.revision-300), g.revision)
	}
}

// ---- requests

func (g *generator) put(key []byte) *pb.PutRequest {
	m := &pb.PutRequest{Key: key, Value: g.value(), PrevKv: g.oneIn(3)}
	switch g.random.IntN(25) {
	case 0, 1:
		m.IgnoreValue, m.Value = true, nil
	case 2:
		m.IgnoreValue = true
	case 3:
		m.IgnoreLease = true
	case 4:
		m.IgnoreLease, m.IgnoreValue = true, g.oneIn(2)
		m.Lease = pick[int64](g, 0, 7)
	case 5:
		m.Lease = pick[int64](g, 1, -1, math.MaxInt64, 0x1234)
	}
	return m
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	m := &pb.DeleteRangeRequest{PrevKv: g.oneIn(2)}
	if m.Key = g.key(); g.oneIn(3) {
		m.RangeEnd = pick(g, prefixEnd(m.Key), append(bytes.Clone(m.Key), 0), append(bytes.Clone(m.Key), 0xff), g.key())
	}
	if g.oneIn(40) {
		m.Key, m.RangeEnd = g.span()
	}
	return m
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	m := &pb.RangeRequest{Revision: g.readRevision(), Serializable: g.oneIn(5)}
	m.Key, m.RangeEnd = g.span()
	if g.oneIn(3) {
		m.Limit = pick[int64](g, 1, 2, 3, 5, 10, 11, 50, 1000, -1, math.MaxInt64, math.MinInt64)
	}
	if g.oneIn(4) {
		m.SortTarget = pb.RangeRequest_SortTarget(g.random.IntN(5))
		m.SortOrder = pb.RangeRequest_SortOrder(g.random.IntN(3))
	}
	if g.oneIn(60) {
		m.SortTarget = pb.RangeRequest_SortTarget(pick[int32](g, 0, 4, 5, 99, -1))
		m.SortOrder = pb.RangeRequest_SortOrder(pick[int32](g, 0, 2, 3, 99, -1))
	}
	m.KeysOnly = g.oneIn(6)
	m.CountOnly = g.oneIn(8)
	if g.oneIn(6) {
		for _, bound := range []*int64{&m.MinModRevision, &m.MaxModRevision, &m.MinCreateRevision, &m.MaxCreateRevision} {
			if g.oneIn(2) {
				*bound = g.between(max(0, g.revision-1000), g.revision)
			}
			if g.oneIn(20) {
				*bound = pick[int64](g, -1, 1, math.MaxInt64)
			}
		}
	}
	return m
}

// A txnShape is what one transaction as a whole allows itself.
type txnShape struct {
	depth       int
	unique      map[string]bool // nil: keys may collide, and mostly the whole is refused for that
	openDeletes bool            // deletes up to the end of all keys; excludes ignorePuts, for etcd dies of both together
	ignorePuts  bool
	readOnly    bool
}

func (g *generator) txnRequest() *request {
	shape := txnShape{depth: pick(g, 0, 0, 0, 1, 1, 2, 3), ignorePuts: g.oneIn(3), readOnly: g.oneIn(5)}
	shape.openDeletes = !shape.ignorePuts && g.oneIn(5)
	if !g.oneIn(3) {
		shape.unique = map[string]bool{}
	}
	m := g.txn(&shape)
	switch g.random.IntN(60) {
	case 0:
		m.Success, m.Failure = nil, nil // compares only
	case 1:
		m.Success, m.Failure = g.manyOps(pick(g, 128, 129)), nil
	case 2:
		m.Compare = g.manyCompares(pick(g, 128, 129))
	case 3:
		nested := &pb.TxnRequest{Success: g.manyOps(pick(g, 126, 127, 128))}
		m = &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: nested}}}}
	}
	return &request{kind: "Txn", message: m, local: isLocal(m), write: true, sorted: hasSort(m)}
}

func (g *generator) txn(shape *txnShape) *pb.TxnRequest {
	m := &pb.TxnRequest{}
	for range g.random.IntN(4) {
		m.Compare = append(m.Compare, g.compare())
	}
	m.Success = g.ops(shape)
	if !g.oneIn(3) {
		m.Failure = g.ops(shape)
	}
	return m
}

func (g *generator) ops(shape *txnShape) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range g.random.IntN(5) {
		ops = append(ops, g.op(shape))
	}
	return ops
}

func (g *generator) op(shape *txnShape) *pb.RequestOp {
	n := g.random.IntN(100)
	switch {
	case shape.readOnly && n < 97 || n < 30:
		m := g.rangeRequest()
		if !g.oneIn(6) {
			m.Revision = 0 // a revision out of reach aborts the whole
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: m}}
	case n < 60:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.txnPut(shape)}}
	case n < 80:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.txnDelete(shape)}}
	case n < 99 && shape.depth > 0:
		inner := *shape
		inner.depth--
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(&inner)}}
	case n < 99:
		m := &pb.RangeRequest{}
		m.Key, m.RangeEnd = g.span()
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: m}}
	default:
		return &pb.RequestOp{}
	}
}

func (g *generator) txnPut(shape *txnShape) *pb.PutRequest {
	key := g.key()
	for shape.unique != nil && (shape.unique[string(key)] || len(key) == 0) {
		key = append(key, byte('a'+g.random.IntN(4)))
	}
	if shape.unique != nil {
		shape.unique[string(key)] = true
	}
	m := g.put(key)
	if !shape.ignorePuts {
		m.IgnoreValue, m.IgnoreLease = false, false
	}
	if !g.oneIn(8) {
		m.Lease = 0
	}
	return m
}

func (g *generator) txnDelete(shape *txnShape) *pb.DeleteRangeRequest {
	m := g.deleteRange()
	if shape.unique != nil {
		if m.RangeEnd = nil; len(m.Key) == 0 || shape.unique[string(m.Key)] {
			m.Key = []byte("dir/a/never")
		}
		shape.unique[string(m.Key)] = true
		if g.oneIn(4) {
			m.Key = []byte("doomed/")
			m.RangeEnd = prefixEnd(m.Key)
		}
	}
	if bytes.Equal(m.RangeEnd, []byte{0}) && !shape.openDeletes {
		m.RangeEnd = nil
	}
	if shape.openDeletes && g.oneIn(3) {
		m.Key, m.RangeEnd = []byte{0xff, byte(g.random.Uint32())}, []byte{0}
	}
	return m
}

func (g *generator) manyOps(count int) []*pb.RequestOp {
	ops := make([]*pb.RequestOp, 0, count)
	for i := range count {
		key := fmt.Appendf(nil, "doomed/%d", i)
		ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key}}})
	}
	return ops
}

func (g *generator) manyCompares(count int) []*pb.Compare {
	compares := make([]*pb.Compare, 0, count)
	for range count {
		compares = append(compares, &pb.Compare{Key: []byte("absent")})
	}
	return compares
}

func (g *generator) compare() *pb.Compare {
	m := &pb.Compare{
		Key:    g.key(),
		Result: pb.Compare_CompareResult(g.random.IntN(4)),
		Target: pb.Compare_CompareTarget(g.random.IntN(5)),
	}
	union := m.Target
	if g.oneIn(15) {
		union = pb.Compare_CompareTarget(g.random.IntN(5)) // one that does not fit the target
	}
	number := pick(g, 0, 1, g.random.Int64N(5), g.between(max(0, g.revision-200), g.revision), -1)
	switch union {
	case pb.Compare_VERSION:
		m.TargetUnion = &pb.Compare_Version{Version: pick(g, number, g.random.Int64N(8))}
	case pb.Compare_CREATE:
		m.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: number}
	case pb.Compare_MOD:
		m.TargetUnion = &pb.Compare_ModRevision{ModRevision: number}
	case pb.Compare_VALUE:
		m.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		m.TargetUnion = &pb.Compare_Lease{Lease: pick[int64](g, 0, 0, 1, -1)}
	}
	if g.oneIn(20) {
		m.TargetUnion = nil
	}
	if g.oneIn(4) {
		m.Key, m.RangeEnd = g.span()
	}
	if g.oneIn(25) {
		m.Result = pb.Compare_CompareResult(pick[int32](g, 4, 99, -1))
	}
	if g.oneIn(25) {
		m.Target = pb.Compare_CompareTarget(pick[int32](g, 5, 99, -1))
	}
	return m
}

// isLocal says whether etcd answers the transaction without asking the others: all is serializable ranges, or nothing.
func isLocal(m *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{m.Success, m.Failure} {
		for _, op := range ops {
			if r := op.GetRequestRange(); r == nil || !r.Serializable {
				return false
			}
		}
	}
	return true
}

// depth counts the transactions within each other, the outermost as one.
func depth(m *pb.TxnRequest) int {
	deepest := 0
	for _, ops := range [][]*pb.RequestOp{m.Success, m.Failure} {
		for _, op := range ops {
			if t := op.GetRequestTxn(); t != nil {
				deepest = max(deepest, depth(t))
			}
		}
	}
	return 1 + deepest
}

func hasSort(m *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{m.Success, m.Failure} {
		for _, op := range ops {
			if r := op.GetRequestRange(); r != nil && hasCustomSort(r) {
				return true
			}
			if t := op.GetRequestTxn(); t != nil && hasSort(t) {
				return true
			}
		}
	}
	return false
}

// huge is around the two limits on size: 1.5 MiB for what goes into the log, 2 MiB for what is received at all.
func (g *generator) huge() *request {
	const logged, received = 1572864, 1572864 + 524288
	value := make([]byte, pick(g, logged-1024, logged+1, received-1024, received+1))
	put := &pb.PutRequest{Key: []byte("huge"), Value: value}
	if g.oneIn(2) {
		ops := []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: put}}}
		return &request{kind: "Txn", message: &pb.TxnRequest{Success: ops}, write: true}
	}
	return &request{kind: "Put", message: put, write: true}
}

// malformed is a message whose bytes are no message: a field cut off.
func (g *generator) malformed() *request {
	m := &pb.RangeRequest{}
	m.ProtoReflect().SetUnknown(pick(g, []byte{0x0a, 0x05, 'k'}, []byte{0x0a}, []byte{0x18, 0xff}, []byte{0x0f, 0x01}))
	method := pick(g, "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn")
	return &request{kind: "Malformed", method: method, message: m}
}
