package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// An answer is a message or an error.
type answer struct {
	message proto.Message
	err     error
}

// outcome is "OK" or the error, for counting.
func (a answer) outcome() string {
	if a.err == nil {
		return "OK"
	}
	return clip(a.code().String()+": "+status.Convert(a.err).Message(), 90)
}

func (a answer) String() string {
	if a.err != nil {
		return a.outcome()
	}
	return clip(prototext.MarshalOptions{Multiline: true}.Format(a.message), 4000)
}

func clip(text string, length int) string {
	if len(text) > length {
		return fmt.Sprintf("%s... (%d bytes)", text[:length], len(text))
	}
	return text
}

// compare says what differs, or nothing.
func compare(req *request, a, b answer) string {
	if a.code() != b.code() {
		return fmt.Sprintf("code %v and %v", a.code(), b.code())
	}
	if req.kind == "Malformed" {
		return "" // the text is the library's own, and not stable
	}
	if textA, textB := status.Convert(a.err).Message(), status.Convert(b.err).Message(); textA != textB {
		return fmt.Sprintf("text %q and %q", textA, textB)
	}
	if a.err != nil {
		return ""
	}
	messageA, messageB := normal(req, a.message), normal(req, b.message)
	if !proto.Equal(messageA, messageB) {
		return firstDifference(prototext.Format(messageA), prototext.Format(messageB))
	}
	return ""
}

// comparable is the answer as text, without what need not be equal.
func (a answer) comparable(req *request) string {
	if a.err != nil {
		return a.String()
	}
	return prototext.MarshalOptions{}.Format(normal(req, a.message))
}

func firstDifference(a, b string) string {
	linesA, linesB := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range linesA {
		if i >= len(linesB) || strings.Join(strings.Fields(linesA[i]), " ") != strings.Join(strings.Fields(linesB[i]), " ") {
			return fmt.Sprintf("line %d of the message: %s", i+1, clip(linesA[i], 200))
		}
	}
	return "the second message is longer"
}

// normal is a copy without what two equal clusters may answer differently.
func normal(req *request, message proto.Message) proto.Message {
	message = proto.Clone(message)
	blank(message.ProtoReflect())
	switch r := req.message.(type) {
	case *pb.RangeRequest:
		if req.kind == "Range" {
			settleTies(r, message.(*pb.RangeResponse))
		}
	case *pb.HashKVRequest:
		if req.hashKept { // of the time before that compaction in etcd, of now in nabata
			message.(*pb.HashKVResponse).Hash = 0
			message.(*pb.HashKVResponse).CompactRevision = 0
		}
	case *pb.TxnRequest:
		settleTxn(r, message.(*pb.TxnResponse))
	}
	return message
}

// blank clears the fields of identity and time in every header.
func blank(m protoreflect.Message) {
	if header, ok := m.Interface().(*pb.ResponseHeader); ok {
		header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() == nil {
			return true
		}
		if field.IsList() {
			for i := range value.List().Len() {
				blank(value.List().Get(i).Message())
			}
		} else {
			blank(value.Message())
		}
		return true
	})
}

func settleTxn(req *pb.TxnRequest, resp *pb.TxnResponse) {
	ops := req.Success
	if !resp.Succeeded {
		ops = req.Failure
	}
	for i, op := range ops {
		if i >= len(resp.Responses) {
			return
		}
		if r, got := op.GetRequestRange(), resp.Responses[i].GetResponseRange(); r != nil && got != nil {
			settleTies(r, got)
		}
		if r, got := op.GetRequestTxn(), resp.Responses[i].GetResponseTxn(); r != nil && got != nil {
			settleTxn(r, got)
		}
	}
}

func hasCustomSort(r *pb.RangeRequest) bool {
	return r.SortTarget != pb.RangeRequest_KEY
}

// settleTies orders the equals of a custom sort by key. When a limit cut such a sort, which of the last equals are
// within it is open as well: those are emptied, and only their number counts.
func settleTies(r *pb.RangeRequest, resp *pb.RangeResponse) {
	if !hasCustomSort(r) || len(resp.Kvs) == 0 {
		return
	}
	equal := func(a, b *mvccpb.KeyValue) bool { return compareBy(r, a, b) == 0 }
	// Without an order too: etcd then sorts one more than the limit, and leaves the last one out.
	if resp.More {
		last := resp.Kvs[len(resp.Kvs)-1]
		for i, kv := range resp.Kvs {
			if equal(kv, last) {
				resp.Kvs[i] = &mvccpb.KeyValue{}
			}
		}
	}
	for start := 0; start < len(resp.Kvs); {
		end := start + 1
		for end < len(resp.Kvs) && equal(resp.Kvs[start], resp.Kvs[end]) {
			end++
		}
		slices.SortFunc(resp.Kvs[start:end], func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
		start = end
	}
}

func compareBy(r *pb.RangeRequest, a, b *mvccpb.KeyValue) int {
	switch r.SortTarget {
	case pb.RangeRequest_VERSION:
		return cmp.Compare(a.Version, b.Version)
	case pb.RangeRequest_CREATE:
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	case pb.RangeRequest_MOD:
		return cmp.Compare(a.ModRevision, b.ModRevision)
	case pb.RangeRequest_VALUE:
		return bytes.Compare(a.Value, b.Value) // of keys_only all are equal: their order is not seen
	default:
		return bytes.Compare(a.Key, b.Key)
	}
}

// A selfcheck spoils one field of an answer and asks the comparer whether it notices.
type selfcheck struct {
	random *rand.Rand
	caught int
}

func (s *selfcheck) try(req *request, a answer) error {
	if s.random.IntN(20) != 0 || req.kind == "Malformed" || req.sorted {
		return nil
	}
	spoiled := answer{}
	what := "error"
	switch {
	case a.err != nil && s.random.IntN(2) == 0:
		spoiled.err = status.Error(a.code(), status.Convert(a.err).Message()+" ")
	case a.err != nil:
		spoiled.err = status.Error(a.code()^codes.Code(16), status.Convert(a.err).Message())
	case req.hashKept: // the hash itself is not looked at
		spoiled.message = proto.Clone(a.message)
		spoiled.message.(*pb.HashKVResponse).HashRevision++
		what = "hash_revision"
	default:
		spoiled.message = proto.Clone(a.message)
		what = s.spoil(spoiled.message.ProtoReflect())
	}
	if compare(req, a, spoiled) == "" || compare(req, spoiled, a) == "" {
		return fmt.Errorf("the comparer is blind to a changed %s in\n%s", what, a)
	}
	s.caught++
	return nil
}

// spoil changes one random field somewhere below `m` and returns its name.
func (s *selfcheck) spoil(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	field := fields.Get(s.random.IntN(fields.Len()))
	_, isHeader := m.Interface().(*pb.ResponseHeader)
	switch {
	case isHeader:
		field = fields.ByName("revision")
	case field.IsList() && m.Get(field).List().Len() > 0 && s.random.IntN(2) == 0:
		return s.spoil(m.Mutable(field).List().Get(s.random.IntN(m.Get(field).List().Len())).Message())
	case field.IsList() && m.Get(field).List().Len() > 0:
		list := m.Mutable(field).List()
		list.Truncate(list.Len() - 1)
		return string(field.FullName())
	case field.IsList():
		list := m.Mutable(field).List()
		list.Append(list.NewElement())
		return string(field.FullName())
	case field.Message() != nil && m.Has(field):
		return s.spoil(m.Mutable(field).Message())
	case field.Message() != nil:
		m.Set(field, m.NewField(field)) // present and empty is not the same as absent
		return string(field.FullName())
	}
	switch value := m.Get(field).Interface().(type) {
	case bool:
		m.Set(field, protoreflect.ValueOfBool(!value))
	case int64:
		m.Set(field, protoreflect.ValueOfInt64(value+1))
	case uint32:
		m.Set(field, protoreflect.ValueOfUint32(value^1))
	case []byte:
		m.Set(field, protoreflect.ValueOfBytes(append(bytes.Clone(value), 0)))
	default:
		panic(field.FullName())
	}
	return string(field.FullName())
}
