package main

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Keys of a group. All calls of a client touch the keys of one group only, so the checker may judge the groups apart.
const keysOfGroup = 3

// A cell is what one key holds; the zero cell is a key that is not there.
type cell struct {
	value   string
	version int64 // puts since the key was created
}

type state [keysOfGroup]cell

func (c cell) put(value string) cell { return cell{value, c.version + 1} }

type kind int

const (
	opPut    kind = iota // answers the previous cell
	opDelete             // answers the previous cell
	opGet
	opRange // all keys of the group
	opTxn   // if key holds `expect`: put value to second, delete third, get key; else get all
)

var kindNames = [...]string{"put", "delete", "get", "range", "txn"}

type input struct {
	kind               kind
	group              string
	key, second, third int
	value              string
	expect             cell // of a txn: the zero cell means that the key is not there
}

type output struct {
	unknown   bool // no answer, or one that promises nothing: it may have happened, now or at any later time
	succeeded bool // of a txn
	cells     []cell
}

func (in input) String() string {
	text := fmt.Sprintf("%s %s/%d", kindNames[in.kind], in.group, in.key)
	switch in.kind {
	case opPut:
		text += " = " + in.value
	case opTxn:
		text += fmt.Sprintf(" if %v: %d = %s, delete %d", in.expect, in.second, in.value, in.third)
	}
	return text
}

// next is what the call does to the state, and the answer it must get.
func next(s state, in input) (state, output) {
	switch in.kind {
	case opPut:
		old := s[in.key]
		s[in.key] = old.put(in.value)
		return s, output{cells: []cell{old}}
	case opDelete:
		old := s[in.key]
		s[in.key] = cell{}
		return s, output{cells: []cell{old}}
	case opGet:
		return s, output{cells: []cell{s[in.key]}}
	case opRange:
		return s, output{cells: s[:]}
	case opTxn:
		if s[in.key] != in.expect {
			return s, output{cells: s[:]}
		}
		s[in.second] = s[in.second].put(in.value)
		s[in.third] = cell{}
		return s, output{succeeded: true, cells: []cell{s[in.key]}}
	}
	panic("unknown kind")
}

func sameCells(a, b []cell) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// The store as one copy on one machine would behave [Herlihy and Wing].
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		groups := map[string][]porcupine.Operation{}
		for _, op := range history {
			group := op.Input.(input).group
			groups[group] = append(groups[group], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range groups {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) {
		after, must := next(s.(state), in.(input))
		got := out.(output)
		if got.unknown {
			return true, after
		}
		return got.succeeded == must.succeeded && sameCells(got.cells, must.cells), after
	},
	Equal: func(a, b any) bool { return a.(state) == b.(state) },
	DescribeOperation: func(in, out any) string {
		o := out.(output)
		if o.unknown {
			return in.(input).String() + " -> unknown"
		}
		var cells []string
		for _, c := range o.cells {
			cells = append(cells, fmt.Sprintf("%s@%d", c.value, c.version))
		}
		return fmt.Sprintf("%v -> %v [%s]", in.(input), o.succeeded, strings.Join(cells, " "))
	},
}
