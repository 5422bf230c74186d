package clients

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestErrorsAreTheLibrarysOwn(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		ctx := deadline(t)
		prefix := keyspace(t, client)
		_, err := client.Put(ctx, "", "v")
		wantError(t, err, rpctypes.ErrEmptyKey)
		_, err = client.Get(ctx, "")
		wantError(t, err, rpctypes.ErrEmptyKey)
		_, err = client.Delete(ctx, "")
		wantError(t, err, rpctypes.ErrEmptyKey)
		_, err = client.Put(ctx, prefix+"k", "v", clientv3.WithLease(math.MaxInt64))
		wantError(t, err, rpctypes.ErrLeaseNotFound)
		_, err = client.Put(ctx, prefix+"k", "v", clientv3.WithIgnoreValue())
		wantError(t, err, rpctypes.ErrValueProvided)
		_, err = client.Put(ctx, prefix+"k", "v", clientv3.WithIgnoreLease(), clientv3.WithLease(1))
		wantError(t, err, rpctypes.ErrLeaseProvided)
		_, err = client.Put(ctx, prefix+"k", "", clientv3.WithIgnoreLease())
		wantError(t, err, rpctypes.ErrKeyNotFound)
		_, err = client.Get(ctx, prefix, clientv3.WithRev(math.MaxInt64))
		wantError(t, err, rpctypes.ErrFutureRev)
		_, err = client.HashKV(ctx, client.Endpoints()[0], math.MaxInt64)
		wantError(t, err, rpctypes.ErrFutureRev)
	})
}

func TestErrorsOnTheWire(t *testing.T) {
	for _, endpoint := range endpoints {
		conn := raw(t, endpoint)
		ctx := deadline(t)
		kv := kvClient(conn)
		ops := func(op *pb.RequestOp, number int) (ops []*pb.RequestOp) {
			for range number {
				ops = append(ops, op)
			}
			return ops
		}
		putOf := func(key string) *pb.RequestOp {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
		}

		_, err := kv.Range(ctx, &pb.RangeRequest{})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: key is not provided")
		_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), SortOrder: 3})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: invalid sort option")
		_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), SortTarget: -1})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: invalid sort option")
		_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Revision: math.MaxInt64})
		wantStatus(t, err, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision")
		_, err = kv.Compact(ctx, &pb.CompactionRequest{Revision: math.MaxInt64})
		wantStatus(t, err, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision")
		_, err = kv.Compact(ctx, &pb.CompactionRequest{Revision: -1})
		wantStatus(t, err, codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted")
		_, err = kv.Put(ctx, &pb.PutRequest{Value: []byte("v")})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: key is not provided")
		_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), IgnoreValue: true, Value: []byte("v")})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: value is provided")
		_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), IgnoreLease: true, Lease: 1})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: lease is provided")
		_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("t-absent"), IgnoreValue: true})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: key not found")
		_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Lease: -5})
		wantStatus(t, err, codes.NotFound, "etcdserver: requested lease not found")
		_, err = kv.DeleteRange(ctx, &pb.DeleteRangeRequest{RangeEnd: []byte{0}})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: key is not provided")
		_, err = kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{}}})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: key not found")
		_, err = kv.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{{}}})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: key is not provided")
		_, err = kv.Txn(ctx, &pb.TxnRequest{Success: ops(putOf("k"), 129)})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: too many operations in txn request")
		_, err = kv.Txn(ctx, &pb.TxnRequest{Failure: ops(putOf("k"), 2)})
		wantStatus(t, err, codes.InvalidArgument, "etcdserver: duplicate key given in txn request")

		err = conn.Invoke(ctx, "/etcdserverpb.KV/Fetch", &pb.RangeRequest{}, &pb.RangeResponse{})
		wantStatus(t, err, codes.Unimplemented, "unknown method Fetch for service etcdserverpb.KV")
		err = conn.Invoke(ctx, "/store.Keys/Get", &pb.RangeRequest{}, &pb.RangeResponse{})
		wantStatus(t, err, codes.Unimplemented, "unknown service store.Keys")

		broken := &pb.RangeRequest{}
		broken.ProtoReflect().SetUnknown([]byte{0x0a, 0x7f})
		_, err = kv.Range(ctx, broken)
		if code := status.Code(err); code != codes.Internal {
			t.Errorf("a message that is none: %v", err)
		}
		_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		must(t, err) // the connection lives on
	}
}

func TestSizeLimits(t *testing.T) {
	const logged, received = 1572864, 1572864 + 524288
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		ctx := deadline(t)
		prefix := keyspace(t, client)
		value := strings.Repeat("0123456789abcdef", received/16)

		put(t, client, prefix+"k", value[:logged-1024])
		equal(t, "value came back", string(get(t, client, prefix+"k").Kvs[0].Value) == value[:logged-1024], true)
		_, err := client.Put(ctx, prefix+"k", value[:logged])
		wantError(t, err, rpctypes.ErrRequestTooLarge)
		_, err = client.Put(ctx, prefix+"k", value[:received-1024])
		wantError(t, err, rpctypes.ErrRequestTooLarge)
		_, err = client.Put(ctx, prefix+"k", value)
		if code := status.Code(err); code != codes.ResourceExhausted ||
			!strings.Contains(err.Error(), "received message larger than max (") {
			t.Errorf("a message beyond the limit: %v", err)
		}
		equal(t, "version after refused writes", get(t, client, prefix+"k", clientv3.WithKeysOnly()).Kvs[0].Version, 1)

		var ops []clientv3.Op
		for i := range 3 {
			ops = append(ops, clientv3.OpPut(prefix+strings.Repeat("x", i+1), value[:logged/3]))
		}
		_, err = client.Txn(ctx).Then(ops...).Commit()
		wantError(t, err, rpctypes.ErrRequestTooLarge)
		commit(t, client.Txn(ctx).Then(ops[:2]...))

		put(t, client, prefix+strings.Repeat("K", 1<<20), "a long key")
		for i := range 6 {
			put(t, client, prefix+"page"+strings.Repeat("y", i), value[:1<<20])
		}
		got := get(t, client, prefix, clientv3.WithPrefix()) // about 10 MiB in one answer
		equal(t, "keys", len(got.Kvs), 10)
	})
}

func TestCancelledCallsLeaveTheConnectionWhole(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		prefix := keyspace(t, client)
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := client.Put(cancelled, prefix+"never", "v")
		wantError(t, err, context.Canceled)
		late, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		_, err = client.Get(late, prefix)
		wantError(t, err, context.DeadlineExceeded)

		value := strings.Repeat("v", 100000)
		for i := range 10 {
			put(t, client, prefix+strings.Repeat("k", i+1), value)
		}
		done := make(chan error)
		const calls = 200
		for i := range calls {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i*50)*time.Microsecond)
			go func() {
				defer cancel()
				var err error
				if i%2 == 0 {
					_, err = client.Get(ctx, prefix, clientv3.WithPrefix())
				} else {
					_, err = client.Put(ctx, prefix+"k", value)
				}
				done <- err
			}()
		}
		for range calls {
			if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) &&
				!errors.Is(err, rpctypes.ErrTimeout) { // what the server says when it is the first to notice
				t.Errorf("cancelled call: %v", err)
			}
		}
		equal(t, "keys", get(t, client, prefix, clientv3.WithPrefix()).Count, 10)
		equal(t, "never written", get(t, client, prefix+"never").Count, 0)
	})
}
