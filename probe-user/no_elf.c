// SPDX-License-Identifier: Apache-2.0 OR MIT
// Stands in for libelf and for zlib's reader when the probe is linked (see build.rs).
//
// libbpf, which comes with libxdp, reads programs from ELF files with them, and the kernel's configuration from a
// gzip file. The probe has libxdp load no program (XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD), so nothing here is ever
// called; if it were, it would say that there is nothing: no version of ELF (EV_NONE), no file, no section. So the
// binary needs neither library where it runs, and need not carry libelf (LGPL or GPL) within it.

#define NOTHING(name) long name(void) { return 0; }

NOTHING(elf64_getehdr)
NOTHING(elf64_getshdr)
NOTHING(elf64_newehdr)
NOTHING(elf_begin)
NOTHING(elf_end)
NOTHING(elf_errno)
NOTHING(elf_getdata)
NOTHING(elf_getscn)
NOTHING(elf_kind)
NOTHING(elf_memory)
NOTHING(elf_ndxscn)
NOTHING(elf_newdata)
NOTHING(elf_newscn)
NOTHING(elf_nextscn)
NOTHING(elf_rawdata)
NOTHING(elf_strptr)
NOTHING(elf_version)
NOTHING(gelf_getclass)
NOTHING(gelf_getehdr)
NOTHING(gelf_getnote)
NOTHING(gelf_getphdr)
NOTHING(gelf_getrel)
NOTHING(gelf_getshdr)
NOTHING(gelf_getsym)
NOTHING(gelf_getverdaux)
NOTHING(gelf_getverdef)
NOTHING(gelf_getversym)
NOTHING(gzclose)
NOTHING(gzgets)
NOTHING(gzopen)
NOTHING(gzopen64)

// These say -1 when they fail.
#define FAILURE(name) long name(void) { return -1; }

FAILURE(elf_getphdrnum)
FAILURE(elf_getshdrnum)
FAILURE(elf_getshdrstrndx)
FAILURE(elf_update)

const char *elf_errmsg(int error)
{
	(void)error;
	return "this program was built without libelf";
}
