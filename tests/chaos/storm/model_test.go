package main

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

func op(client int, in input, call, ret int64, out output) porcupine.Operation {
	in.group = "g"
	return porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret}
}

// T01: histories that break a promise, one by one, and the checker must say so; and those that only look so.
func TestModelNotices(t *testing.T) {
	put := func(key int, value string) input { return input{kind: opPut, key: key, value: value} }
	get := func(key int) input { return input{kind: opGet, key: key} }
	is := func(value string, version int64) output { return output{cells: []cell{{value, version}}} }
	absent, unknown := is("", 0), output{unknown: true}
	swap := input{kind: opTxn, key: 0, second: 1, third: 2, value: "s", expect: cell{"a", 1}}
	const late = 1 << 40
	for name, test := range map[string]struct {
		good    bool
		history []porcupine.Operation
	}{
		"nothing wrong": {true, []porcupine.Operation{
			op(0, put(0, "a"), 1, 2, absent), op(1, get(0), 3, 4, is("a", 1))}},
		"a lost put": {false, []porcupine.Operation{
			op(0, put(0, "a"), 1, 2, absent), op(1, get(0), 3, 4, absent)}},
		"a read that overlaps may be old": {true, []porcupine.Operation{
			op(0, put(0, "a"), 1, 4, absent), op(1, get(0), 2, 3, absent)}},
		"a put done twice": {false, []porcupine.Operation{
			op(0, put(0, "a"), 1, 2, absent), op(1, get(0), 3, 4, is("a", 2))}},
		"an unknown put may come late": {true, []porcupine.Operation{
			op(0, put(0, "a"), 1, late, unknown), op(1, get(0), 3, 4, absent), op(1, get(0), 5, 6, is("a", 1))}},
		"an unknown put does not go away again": {false, []porcupine.Operation{
			op(0, put(0, "a"), 1, late, unknown), op(1, get(0), 3, 4, is("a", 1)), op(1, get(0), 5, 6, absent)}},
		"a delete that is undone": {false, []porcupine.Operation{
			op(0, put(0, "a"), 1, 2, absent), op(0, input{kind: opDelete, key: 0}, 3, 4, is("a", 1)), op(1, get(0), 5, 6, is("a", 1))}},
		"half a transaction": {false, []porcupine.Operation{
			op(0, put(0, "a"), 1, 2, absent), op(0, put(2, "c"), 3, 4, absent),
			op(0, swap, 5, 6, output{succeeded: true, cells: []cell{{"a", 1}}}),
			op(1, input{kind: opRange}, 7, 8, output{cells: []cell{{"a", 1}, {"s", 1}, {"c", 1}}})}},
		"a whole transaction": {true, []porcupine.Operation{
			op(0, put(0, "a"), 1, 2, absent), op(0, put(2, "c"), 3, 4, absent),
			op(0, swap, 5, 6, output{succeeded: true, cells: []cell{{"a", 1}}}),
			op(1, input{kind: opRange}, 7, 8, output{cells: []cell{{"a", 1}, {"s", 1}, {}}})}},
		"two transactions on one state": {false, []porcupine.Operation{
			op(0, put(0, "a"), 1, 2, absent),
			op(0, input{kind: opTxn, key: 0, second: 0, third: 2, value: "x", expect: cell{"a", 1}}, 3, 6,
				output{succeeded: true, cells: []cell{{"x", 2}}}),
			op(1, input{kind: opTxn, key: 0, second: 0, third: 2, value: "y", expect: cell{"a", 1}}, 4, 5,
				output{succeeded: true, cells: []cell{{"y", 2}}})}},
	} {
		if good := porcupine.CheckOperations(model, test.history); good != test.good {
			t.Errorf("%s: the checker says %v", name, good)
		}
	}
}
