package channels

// Column is a column that a reader knows, under one of its names. Several names
// may share a Slot: the layouts of one channel call the same thing differently.
type Column struct {
	Name string
	Slot int // from 0, or Unread
}

// Unread is the slot of a column that is known, but not read.
const Unread = -1

// Columns says where the columns of a file stand. Columns are bound by name,
// never by position.
type Columns struct {
	line  int
	count int
	at    []int
	name  []string
}

// BindColumns binds the header in the given line. A name that is not known is
// refused with the name: nothing is read from a layout that nobody has seen.
func BindColumns(line int, header []string, known []Column) (*Columns, error) {
	c := &Columns{line: line, count: len(header)}
	slots := map[string]int{}
	for _, k := range known {
		slots[k.Name] = k.Slot
		for len(c.at) <= k.Slot {
			c.at, c.name = append(c.at, -1), append(c.name, "")
		}
		if k.Slot >= 0 && c.name[k.Slot] == "" {
			c.name[k.Slot] = k.Name
		}
	}
	seen := map[string]bool{}
	for i, name := range header {
		slot, ok := slots[name]
		switch {
		case !ok:
			return nil, Refuse(line, clip(name), "unknown column: the layout is not one that can be read")
		case seen[name]:
			return nil, Refuse(line, name, "the column is there twice")
		case slot >= 0 && c.at[slot] >= 0:
			return nil, Refuse(line, name, "the column is there twice, also as %s", c.name[slot])
		}
		seen[name] = true
		if slot >= 0 {
			c.at[slot], c.name[slot] = i, name
		}
	}
	return c, nil
}

// clip keeps a name that came from outside short enough for a message.
func clip(name string) string {
	if r := []rune(name); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return name
}

// Need refuses the file where one of the slots has no column.
func (c *Columns) Need(slots ...int) error {
	for _, s := range slots {
		if c.at[s] < 0 {
			return Refuse(c.line, c.name[s], "the column is missing")
		}
	}
	return nil
}

// At returns the position of the slot's column, -1 where the file has none.
func (c *Columns) At(slot int) int { return c.at[slot] }

// Has says whether the file has the slot's column.
func (c *Columns) Has(slot int) bool { return c.at[slot] >= 0 }

// Name returns the slot's column as the file calls it.
func (c *Columns) Name(slot int) string { return c.name[slot] }

// Len returns the number of columns, the known and unread ones too.
func (c *Columns) Len() int { return c.count }
