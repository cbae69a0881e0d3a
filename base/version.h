/* version.h - The version of Cairn, here and nowhere else. */
#ifndef CN_BASE_VERSION_H
#define CN_BASE_VERSION_H

#define CN_VERSION "0.1.0"

#endif
