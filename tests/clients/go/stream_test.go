package clients

import (
	"fmt"
	"math"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

func TestStreamedRangeEqualsTheWhole(t *testing.T) {
	onEachEndpoint(t, func(t *testing.T, client *clientv3.Client) {
		ctx := deadline(t)
		prefix := keyspace(t, client)
		value := strings.Repeat("v", 2000)
		const number = 1500
		var first int64
		for start := 0; start < number; start += 100 {
			var ops []clientv3.Op
			for i := range 100 {
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%05d", prefix, start+i), value))
			}
			resp := commit(t, client.Txn(ctx).Then(ops...))
			if start == 0 {
				first = resp.Header.Revision
			}
		}
		for name, options := range map[string][]clientv3.OpOption{
			"all":         nil,
			"limit":       {clientv3.WithLimit(777)},
			"small limit": {clientv3.WithLimit(3)},
			"old":         {clientv3.WithRev(first)},
			"keys only":   {clientv3.WithKeysOnly()},
			"count only":  {clientv3.WithCountOnly()},
			"key order":   {clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend)},
		} {
			options = append(options, clientv3.WithPrefix())
			whole := get(t, client, prefix, options...)
			stream, err := client.GetStream(ctx, prefix, options...)
			must(t, err)
			joined, err := clientv3.GetStreamToGetResponse(stream)
			must(t, err)
			whole.Header.RaftTerm, joined.Header.RaftTerm = 0, 0
			if !proto.Equal((*pb.RangeResponse)(whole), (*pb.RangeResponse)(joined)) {
				t.Errorf("%s: %d keys of %d, more %v, header %v; the whole has %d of %d, %v, %v", name, len(joined.Kvs),
					joined.Count, joined.More, joined.Header, len(whole.Kvs), whole.Count, whole.More, whole.Header)
			}
		}
	})
}

func TestStreamComesInChunks(t *testing.T) {
	client := connect(t)
	prefix := keyspace(t, client)
	const total = 60
	for i := range total {
		put(t, client, fmt.Sprintf("%s%02d", prefix, i), strings.Repeat("v", 100000))
	}
	stream, err := client.GetStream(deadline(t), prefix, clientv3.WithPrefix())
	must(t, err)
	chunks, number := 0, 0
	for chunk := range stream {
		must(t, chunk.Err())
		chunks++
		number += len(chunk.RangeResponse.Kvs)
		equal(t, "header only in the last", chunk.RangeResponse.Header != nil, number == total)
	}
	equal(t, "keys", number, total)
	if chunks < 2 {
		t.Errorf("6 MB in %d chunk", chunks)
	}
}

func TestStreamRefuses(t *testing.T) {
	client := connect(t)
	for _, c := range []struct {
		key     string
		options []clientv3.OpOption
		want    error
	}{
		{"", nil, rpctypes.ErrEmptyKey},
		{"k", []clientv3.OpOption{clientv3.WithRev(math.MaxInt64)}, rpctypes.ErrFutureRev},
	} {
		stream, err := client.GetStream(deadline(t), c.key, c.options...)
		must(t, err)
		_, err = clientv3.GetStreamToGetResponse(stream)
		wantError(t, err, c.want)
	}
	kv := kvClient(raw(t, endpoints[0]))
	for text, req := range map[string]*pb.RangeRequest{
		"RangeStream does not support custom sort orders": {Key: []byte("k"), SortOrder: pb.RangeRequest_DESCEND},
		"RangeStream does not support revision filters":   {Key: []byte("k"), MinModRevision: 1},
	} {
		stream, err := kv.RangeStream(deadline(t), req)
		must(t, err)
		_, err = stream.Recv()
		wantStatus(t, err, codes.Unimplemented, text)
	}
}
