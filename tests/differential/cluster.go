package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A cluster is one connection to each member. Raw stubs: no retries, no checks on the client's side.
type cluster struct {
	name      string
	endpoints []string
	conns     []*grpc.ClientConn
}

func dial(name, endpoints string) (*cluster, error) {
	c := &cluster{name: name, endpoints: strings.Split(endpoints, ",")}
	for _, endpoint := range c.endpoints {
		conn, err := grpc.NewClient(strings.TrimPrefix(endpoint, "http://"),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
		if err != nil {
			return nil, err
		}
		c.conns = append(c.conns, conn)
	}
	got := c.call(context.Background(), 0, &request{kind: "Range", message: &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}})
	if got.err != nil {
		return nil, fmt.Errorf("%s: %w", name, got.err)
	}
	if revision := got.message.(*pb.RangeResponse).Header.Revision; revision != 1 {
		return nil, fmt.Errorf("%s is at revision %d: both clusters must be fresh", name, revision)
	}
	return c, nil
}

func (c *cluster) close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// ask sends the request to a random member of each cluster, at the same time.
func ask(a, b *cluster, req *request, random *rand.Rand) (answerA, answerB answer) {
	memberA, memberB := random.IntN(len(a.conns)), random.IntN(len(b.conns))
	done := make(chan struct{})
	go func() {
		answerB = b.askMember(memberB, req)
		close(done)
	}()
	answerA = a.askMember(memberA, req)
	<-done
	return answerA, answerB
}

func (c *cluster) askMember(member int, req *request) answer {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for attempt := 0; ; attempt++ {
		if req.local {
			c.barrier(ctx, member)
		}
		got := c.call(ctx, member, req)
		if got.code() != codes.Unavailable || req.write || attempt == 10 {
			return got
		}
	}
}

// barrier returns when the member has applied all that was acknowledged anywhere before.
func (c *cluster) barrier(ctx context.Context, member int) {
	_, _ = pb.NewKVClient(c.conns[member]).Range(ctx, &pb.RangeRequest{Key: []byte("barrier"), CountOnly: true})
}

// awaitAll returns when every member answers again.
func (c *cluster) awaitAll() error {
	for i, conn := range c.conns {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn.ResetConnectBackoff()
		_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")}, grpc.WaitForReady(true))
		if err != nil {
			return fmt.Errorf("%s after a restart: %w", c.endpoints[i], err)
		}
	}
	return nil
}

func (c *cluster) call(ctx context.Context, member int, req *request) answer {
	conn := c.conns[member]
	switch req.kind {
	case "Range":
		return invoke(ctx, conn, "/etcdserverpb.KV/Range", req.message, &pb.RangeResponse{})
	case "Put":
		return invoke(ctx, conn, "/etcdserverpb.KV/Put", req.message, &pb.PutResponse{})
	case "DeleteRange":
		return invoke(ctx, conn, "/etcdserverpb.KV/DeleteRange", req.message, &pb.DeleteRangeResponse{})
	case "Txn":
		return invoke(ctx, conn, "/etcdserverpb.KV/Txn", req.message, &pb.TxnResponse{})
	case "Compact":
		return invoke(ctx, conn, "/etcdserverpb.KV/Compact", req.message, &pb.CompactionResponse{})
	case "HashKV":
		return invoke(ctx, conn, "/etcdserverpb.Maintenance/HashKV", req.message, &pb.HashKVResponse{})
	case "RangeStream":
		return stream(ctx, conn, req.message.(*pb.RangeRequest))
	case "Unknown", "Malformed":
		return invoke(ctx, conn, req.method, req.message, &pb.RangeResponse{})
	}
	panic(req.kind)
}

func invoke(ctx context.Context, conn *grpc.ClientConn, method string, in, out proto.Message) answer {
	if err := conn.Invoke(ctx, method, in, out); err != nil {
		return answer{err: err}
	}
	return answer{message: out}
}

// stream joins the chunks of a RangeStream into one response, and holds them to the rules about chunks.
func stream(ctx context.Context, conn *grpc.ClientConn, req *pb.RangeRequest) answer {
	chunks, err := pb.NewKVClient(conn).RangeStream(ctx, req)
	if err != nil {
		return answer{err: err}
	}
	all := &pb.RangeResponse{}
	for {
		chunk, err := chunks.Recv()
		if errors.Is(err, io.EOF) {
			if all.Header == nil {
				return answer{err: errors.New("the last chunk has no header")}
			}
			return answer{message: all}
		}
		if err != nil {
			return answer{err: err}
		}
		if all.Header != nil {
			return answer{err: errors.New("a chunk follows the one with the header")}
		}
		proto.Merge(all, chunk.RangeResponse)
	}
}

// unavailable is the error of an answer that says nothing about the request.
func unavailable(a answer) error {
	switch a.code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return a.err
	default:
		return nil
	}
}

func (a answer) code() codes.Code { return status.Code(a.err) }
