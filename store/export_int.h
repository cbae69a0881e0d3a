/* export_int.h - Names that export and import share.  Layer: store, private. */
#ifndef CN_STORE_EXPORT_INT_H
#define CN_STORE_EXPORT_INT_H

#include "store/export.h"
#include "store/ledger_int.h"

#define CN_EXPORT_SCHEMA "cairn session"

#define CN_EXPORT_ONE(column) +1
enum { CN_EXPORT_BILL_NUMBERS = 0 CN_BILL_COLUMNS(CN_EXPORT_ONE) };

/* The bill's members, in the order of cn_bill. */
static inline const char *cn_export_bill_name(int i) {
#define CN_EXPORT_NAME(column) #column,
    static const char *const names[] = {CN_BILL_COLUMNS(CN_EXPORT_NAME)};
#undef CN_EXPORT_NAME
    return names[i];
}

#endif
