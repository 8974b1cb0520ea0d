package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// identity is the user as whom a database child runs. PostgreSQL refuses to run
// as root, so root hands it to the user postgres, else nobody; where that user
// cannot reach the data directory, a user namespace makes root look like nobody.
type identity struct {
	uid, gid  int // owner of the files, as we see it
	change    bool
	namespace bool
}

// nobody is the user that every Debian has; inside a namespace we are mapped to it.
const nobody = 65534

// childUser chooses the identity for a child whose files stand below parent.
func childUser(parent string) (identity, error) {
	self := identity{uid: os.Geteuid(), gid: os.Getegid()}
	if self.uid != 0 {
		return self, nil
	}
	if server, found := serverUser(); found && searchable(parent, server.uid, server.gid) {
		return server, nil
	}
	self.namespace = true
	return self, self.tryNamespace(parent)
}

// serverUser is the user to whom root hands a database: Debian's package makes
// postgres, and every system has nobody.
func serverUser() (identity, bool) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return identity{uid: uid, gid: gid, change: true}, true
		}
	}
	return identity{}, false
}

// tryNamespace finds out whether this machine allows user namespaces: a
// container's seccomp profile often does not.
func (id identity) tryNamespace(parent string) error {
	probe := exec.Command("/bin/true")
	probe.Dir, probe.SysProcAttr = "/", id.attr()
	if err := probe.Run(); err != nil {
		return fmt.Errorf("%s cannot be entered by the database's user, and user namespaces are not allowed here (%w): "+
			"choose another CLEARWARD_DATA_DIR, such as /var/lib/clearward", parent, err)
	}
	return nil
}

// attr returns fresh process attributes for one child.
func (id identity) attr() *syscall.SysProcAttr {
	switch {
	case id.namespace:
		return &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: id.uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: id.gid, Size: 1}},
		}
	case id.change:
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid)}}
	}
	return &syscall.SysProcAttr{}
}

// own makes the folder when it is missing and gives it, with all that stands in
// it, to the identity: a directory may have been used by root under another one.
func (id identity) own(dir string) error {
	if err := makeSearchable(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == id.uid {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, id.uid, id.gid)
	})
}

// makeSearchable makes the missing folders of a path so that any user may pass
// through them, whatever the umask.
func makeSearchable(dir string) error {
	err := os.Mkdir(dir, 0o711)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeSearchable(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o711) // once: some file systems let nobody make a folder
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(dir, 0o711)
}

// searchable says whether a user may pass through every folder down to dir.
// Folders that do not exist yet are made by us, searchable.
func searchable(dir string, uid, gid int) bool {
	for {
		info, err := os.Stat(dir)
		if err == nil {
			stat, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return false
			}
			need := fs.FileMode(0o001)
			switch {
			case int(stat.Uid) == uid:
				need = 0o100
			case int(stat.Gid) == gid:
				need = 0o010
			}
			if info.Mode()&need == 0 {
				return false
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
